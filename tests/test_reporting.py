import math
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from conftest import make_dataset, make_spec
from scipy import stats
from test_loop import folder_of

from whysgd.data.build_store import build_store
from whysgd.errors import UserError
from whysgd.report import figures, page, tables
from whysgd.report.claims import evaluate_check, evaluate_claims
from whysgd.report.frame import read_histories, read_runs
from whysgd.study.checks import parse_check
from whysgd.study.layout import judged_claims
from whysgd.study.papers import load_paper
from whysgd.study.spec import StoredCopies
from whysgd.training.loop import train


def frame(values: dict, scale="mini", status="finished") -> pd.DataFrame:
    """A tidy frame with the given accuracies of each run."""
    lines = [
        {"paper": "p", "run": run, "scale": scale, "seed": seed, "status": status, "steps": 30, "test_accuracy": accuracy,
         "best_selected_on": "test", "dataset": "digits", "train_images": 5, "held_out_images": 0, "test_images": 6,
         "model": "m", "device": "cpu", "stored_copies": 0}
        for run, accuracies in values.items() for seed, accuracy in enumerate(accuracies)
    ]  # fmt: skip
    return pd.DataFrame(lines)


def row(run, label, mean=None, std=None, column=None) -> dict:
    """A laid-out row, as `whysgd.study.layout` makes it."""
    return {"run": run, "row": run, "label": label, "column": column, "method": column or run, "metric": "test_accuracy",
            "mean": mean, "std": std, "gap": None, "published_gap": None, "planned": run is not None}  # fmt: skip


TABLE = {
    "title": "T", "setting": "CIFAR-10", "columns": None,
    "rows": [row("a", "A", 95.0, 0.5), row("b", "B & co_1", 80.0), row("c", "C")],
}  # fmt: skip


def test_a_table_has_published_and_measured_side_by_side():
    table = tables.make_table(TABLE, "p", frame({"a": [90.0, 92.0, 97.0], "b": [81.5]}))
    assert table.columns.tolist() == tables.COLUMNS
    first, second, third = (line for _, line in table.iterrows())
    assert (first.measured_mean, first.measured_median, first.n) == (93.0, 92.0, 3)
    assert first.measured_std == pytest.approx(np.std([90, 92, 97], ddof=1))
    assert first.difference == pytest.approx(-2.0)
    assert math.isnan(second.measured_std)
    assert second.difference == pytest.approx(1.5)
    assert (third.n, third.note) == (0, "not run")
    assert first.note == "scale mini, not the paper's: 30 steps"


def test_at_the_papers_scale_there_is_no_note_and_diverged_runs_are_counted():
    assert tables.make_table(TABLE, "p", frame({"a": [1.0]}, "paper")).note[0] == ""
    diverged = tables.make_table(TABLE, "p", frame({"a": [10.0, 10.0]}, "paper", "diverged"))
    assert diverged.note[0] == "2 of 2 diverged"
    assert diverged.measured_mean[0] == 10.0


def test_the_note_says_how_many_copies_were_stored():
    runs = frame({"a": [1.0]}).assign(stored_copies=2)
    assert tables.make_table(TABLE, "p", runs).note[0] == "scale mini, not the paper's: 30 steps; 2 stored copies"


@pytest.mark.parametrize(("channels", "copies", "clean"), [(1, 2, False), (3, 12, True)])
def test_a_sheet_shows_each_class_and_its_stored_versions(tmp_path, channels, copies, clean):
    dataset = make_dataset(channels=channels)
    plan = StoredCopies(copies=copies, crop_padding=2, flip=True, clean_first=clean)
    store = build_store(dataset, plan, tmp_path / "s.lmdb")
    figure = figures.plot_sheet(dataset, store)
    shown = min(copies, 10)
    assert len(figure.axes) == 3 * (1 + shown)
    number = int(np.flatnonzero(dataset.train.labels == 1)[0])
    drawn = [np.asarray(axis.images[0].get_array()) for axis in figure.axes[1 + shown : 2 * (1 + shown)]]
    expected = [dataset.train.images[number], *(store.take(np.array([number + 23 * c]))[0] for c in range(shown))]
    for picture, image in zip(drawn, expected, strict=True):
        assert np.array_equal(picture, image.transpose(1, 2, 0) if channels == 3 else image[0])
    assert figure.axes[1].get_title() == ("clean" if clean else "0")
    figures.save_figure(figure, [tmp_path / "sheet.png"])


CELLS = {
    "title": "T", "setting": "CIFAR-10", "columns": {"x": {"label": "X"}, "y": {"label": "Y"}},
    "rows": [
        row("a", "A", 95.0, column="X"), row("a.y", "A", 96.0, column="Y"),
        row("b", "B", 80.0, column="X"), row("b.y", "B", 81.0, column="Y"),
    ],
}  # fmt: skip


def test_a_table_with_columns_is_long_in_csv_and_wide_for_readers():
    runs = frame({"a": [90.0, 92.0], "a.y": [93.0], "b": [70.0]})
    table = tables.make_table(CELLS, "p", runs)
    assert table.columns.tolist() == ["row", "column", *tables.COLUMNS[1:]]
    assert table.measured_mean[:3].tolist() == [91.0, 93.0, 70.0]
    shown = tables.formatted(table)
    assert shown.columns.tolist() == ["label", "X", "Y"]
    assert shown.to_numpy().tolist() == [
        ["A", "95.00 → 91.00 ± 1.41", "96.00 → 93.00"], ["B", "80.00 → 70.00", "81.00 → –"]
    ]  # fmt: skip
    assert "published → measured" in tables.to_markdown(table, "T", "S", "M")
    assert r"95.00 $\to$ 91.00 $\pm$ 1.41" in tables.to_latex(table, "T", "S", "M")
    histories = runs.assign(epoch=1).merge(pd.DataFrame({"epoch": [1], "step_loss": [1.0], "gradient_norm": [1.0]}))
    axes = figures.plot_curves(CELLS, histories, "here").axes
    assert [axis.get_ylabel() for axis in axes] == ["test accuracy [%], X", "test accuracy [%], Y"]
    labels = [text.get_text() for text in figures.plot_comparison(CELLS, table, runs, "here").axes[0].get_yticklabels()]
    assert labels == ["A (X)", "A (Y)", "B (X)", "B (Y)"]


def test_markdown_and_latex_say_what_was_measured():
    runs = frame({"a": [90.0, 92.0], "b": [81.5]})
    table = tables.make_table(TABLE, "p", runs)
    setting = tables.setting_of(runs)
    assert setting == "scale mini: digits (5 training and 6 test images), m, on cpu"
    markdown = tables.to_markdown(table, "T", "CIFAR-10", setting)
    assert "Published: CIFAR-10." in markdown
    assert f"Measured: {setting}." in markdown
    assert "91.00 ± 1.41" in markdown
    assert "-4.00" in markdown
    latex = tables.to_latex(table, "T", "CIFAR-10", setting)
    assert r"B \& co\_1" in latex
    assert r"91.00 $\pm$ 1.41" in latex
    assert r"\toprule" in latex


@pytest.mark.parametrize(
    ("check", "expected"),
    [
        ("a >= b", [({"a": 1, "b": -1}, 0.0, False)]),
        ("sgd - fb >= 10 points", [({"sgd": 1, "fb": -1}, 10.0, False)]),
        ("fb-strong-reg >= sgd - 0.5 points", [({"fb-strong-reg": 1, "sgd": -1}, -0.5, False)]),
        ("a + 1 < b", [({"b": 1, "a": -1}, 1.0, True)]),
        ("a > b and c >= 1", [({"a": 1, "b": -1}, 0.0, True), ({"c": 1}, 1.0, False)]),
        ("a < b <= c", [({"b": 1, "a": -1}, 0.0, True), ({"c": 1, "b": -1}, 0.0, False)]),
    ],
)
def test_checks_are_read(check, expected):
    assert [(c.runs, c.needed, c.strict) for c in parse_check(check)] == expected


@pytest.mark.parametrize(
    "check", ["a", "a >=", "a b >= c", ">= 3", "a >= b -", "a = b", "a >= b; c", "a >= a", "3 >= 2", "a >= nan points"]
)
def test_checks_that_are_no_checks_are_refused(check):
    with pytest.raises(UserError, match="check = "):
        parse_check(check)


def test_a_strict_claim_does_not_hold_for_equal_values():
    equal = {"a": [90.0, 90.0], "b": [90.0, 90.0]}
    assert evaluate_check("a < b", equal)["verdict"] == "fails"
    assert evaluate_check("a <= b", equal)["verdict"] == "holds"


def test_the_interval_is_welchs():
    a, b = [95.0, 96.0, 97.5], [90.0, 94.0, 91.0, 92.5]
    verdict = evaluate_check("a >= b", {"a": a, "b": b})
    interval = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    assert f"[{interval.low:+.2f}, {interval.high:+.2f}]" in verdict["evidence"]


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ({"a": [90.0, 90.2], "b": [80.0, 80.2]}, "holds"),
        ({"a": [80.0, 80.2], "b": [90.0, 90.2]}, "fails"),
        ({"a": [80.0, 95.0], "b": [81.0, 90.0]}, "undetermined"),
        ({"a": [90.0], "b": [80.0]}, "undetermined"),
        ({"a": [90.0, 91.0]}, "undetermined"),
        ({"a": [90.0, 90.0], "b": [90.0, 90.0]}, "holds"),
    ],
)
def test_verdicts(values, verdict):
    assert evaluate_check("a >= b", values)["verdict"] == verdict


def test_a_chain_fails_if_one_link_fails_and_holds_only_if_all_do():
    low, middle, high = [1.0, 1.1], [5.0, 5.1], [9.0, 9.1]
    assert evaluate_check("a < b < c", {"a": low, "b": middle, "c": high})["verdict"] == "holds"
    assert evaluate_check("a < b < c", {"a": low, "b": high, "c": middle})["verdict"] == "fails"
    assert evaluate_check("a < b < c", {"a": low, "b": middle})["verdict"] == "undetermined"


def test_the_papers_claims_are_understood():
    planned = set(load_paper("geiping2022")["runs"])
    claims = judged_claims(load_paper("geiping2022")["claims"], {}, planned)
    names = {row["run"] for row in load_paper("geiping2022")["tables"]["main"]["rows"]}
    measured = frame({name: [90.0, 90.1] for name in names}).assign(paper="geiping2022")
    verdicts = evaluate_claims(claims, "geiping2022", measured, measured)
    assert verdicts.verdict.tolist() == [
        "fails",
        "undetermined",
        "holds",
        "undetermined",
        "undetermined",
        "undetermined",
        "undetermined",
    ]
    assert verdicts.evidence[4].startswith("not run: sgd.resnet50, fb.resnet50, ")
    assert verdicts.evidence[6] == "not measured: fb-strong-reg, fb"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    data = folder_of(make_dataset(), folder / "data")
    for seed in (0, 1):
        train(make_spec(seed=seed, run="a"), data, folder / str(seed))
    return [folder / str(seed) / "metrics.json" for seed in (0, 1)]


def courses(runs):
    return [file.with_name("history.csv") for file in runs]


def test_frames_hold_every_run_and_every_evaluation(runs):
    frame, histories = read_runs(runs), read_histories(runs, courses(runs))
    assert frame.seed.tolist() == [0, 1]
    assert {"test_accuracy", "best_test_accuracy", "dataset", "model", "seconds_per_step"} <= set(frame.columns)
    assert len(histories) == 2 * 4
    last = histories[(histories.seed == 1) & (histories.step == 4)].iloc[0]
    assert last.test_accuracy == frame.test_accuracy[1]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"paper": "p"}'])
def test_damaged_metrics_are_named(tmp_path, content):
    file = tmp_path / "metrics.json"
    file.write_text(content)
    with pytest.raises(UserError, match=str(file)):
        read_runs([file])


def test_figures_are_drawn_with_every_row_and_are_reproducible(runs, tmp_path):
    histories, frame = read_histories(runs, courses(runs)), read_runs(runs)
    table = {**TABLE, "rows": [row("a", "Row A", 95.0, 0.5), row("b", "Row B", 80.0)]}
    other = {"run": "b", "test_accuracy": 7.0}
    histories, frame = (pd.concat([part, part.assign(**other)]) for part in (histories, frame))
    lines = tables.make_table(table, "geiping2022", frame)
    for name in ("first", "second"):
        figures.save_figure(figures.plot_curves(table, histories, "here"), [tmp_path / f"{name}_curves.svg"])
        figure = figures.plot_comparison(table, lines, frame, "here")
        figures.save_figure(figure, [tmp_path / f"{name}_comparison.svg", tmp_path / f"{name}_comparison.png"])
    for kind in ("curves", "comparison"):
        text = (tmp_path / f"first_{kind}.svg").read_text()
        assert text == (tmp_path / f"second_{kind}.svg").read_text()
        assert "Row A" in text
        assert "Row B" in text
    assert (tmp_path / "first_comparison.png").read_bytes().startswith(b"\x89PNG")
    axis = figures.plot_comparison(table, lines, frame, "here").axes[0]
    drawn = {round(float(x), 6) for line in axis.lines for x in line.get_xdata()}
    expected = {95.0, 80.0, 7.0, *frame.test_accuracy, lines.measured_mean[0]}
    assert {round(float(x), 6) for x in expected} <= drawn
    accuracy = figures.plot_curves(table, histories, "here").axes[2]
    course = histories[histories.run == "a"].groupby("epoch").test_accuracy.mean()
    assert any(list(line.get_ydata()) == pytest.approx(course.tolist()) for line in accuracy.lines)
    assert any(set(line.get_ydata()) == {7.0} for line in accuracy.lines)


class Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.addresses, self.tags = [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href")]


def test_the_page_is_self_contained_and_escapes_what_users_write(tmp_path):
    (tmp_path / "figure.png").write_bytes(b"\x89PNG")
    table = tables.make_table(
        {**TABLE, "rows": [{**TABLE["rows"][0], "label": "<script>x</script>"}]}, "p", frame({"a": [1.0]})
    )
    part = {
        "title": "T",
        "setting": "S",
        "table": table,
        "figures": [{"file": tmp_path / "figure.png", "caption": "C"}],
    }
    header = {"paper": "p", "title": "<b>Title</b>", "venue": "V", "arxiv": "1"}
    html = page.write_page("whysgd", "here", [{"paper": header, "claims": None, "tables": [part]}])
    links = Links()
    links.feed(html)
    assert links.addresses
    assert all(address.startswith(("data:", "#")) for address in links.addresses)
    assert links.tags.count("script") == 1  # its own
    assert "b" not in links.tags
    assert "&lt;b&gt;Title" in html
