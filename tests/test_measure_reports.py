"""What the measures found: frames, the table for readers, rank correlations and the summary."""

import json
import runpy
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from frames import measured, runs_frame
from scipy import stats

from whysgd.errors import UserError
from whysgd.measures.catalog import MEASURES, QUANTITIES
from whysgd.report import correlation_figure
from whysgd.report.correlations import COMPARED, OVERALL, TARGETS, correlate, expected_sign, redundant
from whysgd.report.measures import COLUMNS, measures_table, over_seeds, read_measures, rounded, spread, wide
from whysgd.report.statistics import bootstrap, percentile_interval, spearman
from whysgd.report.style import plt, save_figure
from whysgd.report.summary import summary_blocks
from whysgd.report.table import Cell, to_markdown
from whysgd.streams import stream
from whysgd.study.validation import ROOT


def ranked(x, y, quantity="keskar_sharpness", target="test_accuracy", **names) -> pd.DataFrame:
    """A wide frame of one seed per run with two quantities."""
    runs = runs_frame({f"r{place}": [0.0] for place in range(len(x))}, **names)
    pairs = {f"r{place}": pair for place, pair in enumerate(zip(x, y, strict=True))}
    return wide(measured(runs, **{quantity: lambda r: pairs[r.run][0], target: lambda r: pairs[r.run][1]}), runs)


def found(frame, scope=OVERALL, quantity="keskar_sharpness", target="test_accuracy"):
    return frame[(frame.scope == scope) & (frame.quantity == quantity) & (frame.target == target)].iloc[0]


def result(**other) -> dict:
    quantities = {
        "fisher_trace": {"value": 2.0, "std_error": 0.5, "samples": 3, "each": [1.5, 2.0, 2.5], "interval": [1.0, None]}
    }
    return {"paper": "p", "run": "a", "scale": "mini", "seed": 0, "measure": "fisher", "status": "finished",
            "quantities": quantities, "options": {}, "cost": {"seconds": 1.0, "cpu_seconds": 2.0}, **other}  # fmt: skip


def test_measures_are_read_and_a_diverged_run_has_no_numbers(tmp_path):
    nothing = {"fisher_trace": {"value": None, "std_error": None, "samples": 0, "each": [], "interval": [None, None]}}
    (tmp_path / "a").write_text(json.dumps([result(), result(seed=1, status="diverged", quantities=nothing)]))
    (tmp_path / "b").write_text(
        json.dumps([result(quantities={"flatness": {"value": 1, "std_error": None, "samples": 1}})])
    )
    frame = read_measures([tmp_path / "a", tmp_path / "b"])
    assert frame.columns.tolist() == COLUMNS
    assert frame.iloc[0].tolist() == [
        "p", "a", "mini", 0, "fisher", "finished", "fisher_trace", 2.0, 0.5, 1.0, np.inf, 3, 1.0, 2.0, False
    ]  # fmt: skip
    assert frame.loc[1, ["value", "std_error", "low", "high"]].isna().all()
    assert frame.loc[2, ["std_error", "low", "high"]].isna().all()
    assert read_measures([]).columns.tolist() == COLUMNS


@pytest.mark.parametrize(
    "content",
    [
        "", "{", "[1]", '[{"paper": "p"}]', json.dumps([result(cost=None)]), json.dumps([result(quantities=[1])]),
        json.dumps([result(quantities={"fisher_trace": 1.0})]),
        json.dumps([result(quantities={"beauty": {"value": 1.0, "std_error": None, "samples": 1}})]),
    ],
)  # fmt: skip
def test_damaged_measures_are_named(tmp_path, content):
    file = tmp_path / "m.json"
    file.write_text(content)
    with pytest.raises(UserError, match=str(file)):
        read_measures([file])


def test_a_wide_line_is_a_run_and_a_seed_and_what_was_not_measured_is_nan():
    runs = runs_frame({"a": [90.0, 10.0], "b": [80.0]}, diverged=[("a", 1)])
    lines = wide(measured(runs[runs.run == "a"], keskar_sharpness=5.0), runs)
    assert lines[["run", "seed"]].to_numpy().tolist() == [["a", 0], ["a", 1], ["b", 0]]
    assert set(QUANTITIES) <= set(lines.columns)
    assert lines.keskar_sharpness.fillna(-1).tolist() == [5.0, -1, -1]
    # The accuracy that training ended with stands in for a measured one, but not a diverged run's.
    assert lines.test_accuracy.fillna(-1).tolist() == [90.0, -1, 80.0]
    assert lines.train_accuracy.isna().all()
    assert len(wide(pd.DataFrame(columns=COLUMNS), runs)) == 3
    assert wide(measured(runs, test_accuracy=1.0), runs).test_accuracy.fillna(-1).tolist() == [1.0, -1, 1.0]


def test_the_table_has_means_and_deviations_over_finished_seeds_below_the_names_of_measures():
    runs = runs_frame({"a": [90.0, 92.0, 10.0], "b": [80.0], "c": [10.0]}, diverged=[("a", 2), ("c", 0)])
    table = measures_table(wide(measured(runs, hessian_trace=lambda run: 1000.0 * (1 + run.seed)), runs))
    assert table.heads == ["run", "seeds", "diverged", "test accuracy [%]", "Hessian trace [nats]"]
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["p/a", "2", "1", "91.0 ± 1.4", "1500 ± 707"],
        ["p/b", "1", "0", "80.0", "1000"],
        ["p/c", "0", "1", "–", "–"],
    ]
    assert table.rows[0][0] == Cell("p/a", "p/a")
    assert table.rows[0][4] == Cell("1500 ± 707", "p/a", "hessian_trace")
    assert table.rows[2][4] == Cell("–")
    assert table.groups == [("", 1), ("", 2), ("accuracy gap", 1), ("Hessian", 1)]
    assert table.numbers == [False, True, True, True, True]
    markdown = to_markdown([table])
    assert markdown.index("**Accuracy gap**") < markdown.index("91.0 ± 1.4") < markdown.index("**Hessian**")
    both = pd.concat([runs, runs_frame({"a": [50.0]}, paper="q", model="n")])
    table = measures_table(wide(measured(both), both))
    assert [row[3].text for row in table.rows] == ["m", "m", "m", "n"]
    assert table.groups[:2] == [("", 1), ("", 3)]


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([], "–"), ([0.0], "0"), ([98.25], "98.2"), ([1234.5], "1234"), ([1.5e7], "1.5e+07"), ([2e-5], "2e-05"),
        ([0.01234], "0.0123"), ([98.3, 98.3], "98.3 ± 0.0"), ([98.30, 98.34], "98.32 ± 0.03"),
        ([1e6, 2e6], "1.5e+06 ± 7.1e+05"), ([-5.0, 5.0], "0.00 ± 7.07"), ([0.0, 0.0], "0 ± 0"),
    ],
)  # fmt: skip
def test_numbers_are_rounded_to_what_they_are_worth(values, text):
    assert spread(values) == text
    assert rounded(float("nan")) == "–"


def test_runs_of_a_paper_that_differ_in_name_alone_count_once():
    runs = runs_frame({f"r{i}": [90.0 + i] for i in range(6)})
    runs["settings_digest"] = ["a", "b", "c", "d", "e", "a"]
    both = pd.concat([runs, runs.assign(paper="q")], ignore_index=True)
    lines = wide(measured(both, keskar_sharpness=lambda run: -run.test_accuracy), both)
    assert over_seeds(lines).run.tolist() == 2 * ["r0", "r1", "r2", "r3", "r4"]
    assert found(correlate(lines), "p").n == 5


def test_a_correlation_is_spearmans_with_a_bootstrap_over_runs():
    generator = np.random.default_rng(0)
    x = generator.normal(size=20)
    y = x + generator.normal(size=20)
    lines = ranked(x, y)
    line = found(correlate(lines))
    assert (line.rho, line.n, line.networks) == (pytest.approx(stats.spearmanr(x, y).statistic), 20, 1)
    assert (line.low, line.high) == percentile_interval(bootstrap(x, y, stream(0, "bootstrap", 0)))
    pd.testing.assert_frame_equal(correlate(lines), correlate(lines))
    assert found(correlate(ranked(x, -y))).rho == pytest.approx(-line.rho)


def test_means_that_differ_by_rounding_alone_have_the_same_rank():
    seeds = {"r0": [0.1, 0.2, 0.3], "r1": [0.3, 0.2, 0.1], **{f"r{i}": [float(i)] * 3 for i in range(2, 6)}}
    runs = runs_frame(seeds)
    lines = wide(
        measured(runs, keskar_sharpness=lambda run: run.test_accuracy, accuracy_gap=lambda run: int(run.run[1:])), runs
    )
    assert over_seeds(lines).keskar_sharpness[:2].tolist() == [0.2, 0.2]
    expected = stats.spearmanr([0, 0, 2, 3, 4, 5], range(6)).statistic
    assert found(correlate(lines), target="accuracy_gap").rho == pytest.approx(expected)


def test_fewer_than_five_runs_or_nothing_that_varies_have_no_correlation_and_seeds_are_no_runs():
    for x in (np.arange(4.0), np.ones(6)):
        line = found(correlate(ranked(x, np.arange(float(len(x))))))
        assert (line.n, line.networks) == (0, 0)
        assert np.isnan([line.rho, line.low, line.high]).all()
    runs = runs_frame({f"r{i}": [90.0 + i, 91.0 + i, 92.0 + i] for i in range(6)})
    line = found(correlate(wide(measured(runs, keskar_sharpness=lambda run: run.test_accuracy), runs)))
    assert (line.n, line.rho) == (6, 1.0)


def test_differences_between_papers_make_no_correlation():
    """Simpson's paradox: within each paper the measure falls with accuracy, between papers it rises."""
    noise = np.arange(6.0)
    lines = pd.concat([ranked(level + noise, level - noise, paper=f"p{level}") for level in (0, 100, 200)])
    means = over_seeds(lines)
    assert spearman(means.keskar_sharpness.to_numpy(), means.test_accuracy.to_numpy()) > 0.6
    frame = correlate(lines)
    assert frame.scope.unique().tolist() == [OVERALL, "p0", "p100", "p200"]
    line = found(frame)
    assert line.high < 0
    assert (line.n, line.networks) == (18, 3)
    assert found(frame, "p100").rho == -1.0
    # The same within one paper, between its networks.
    lines = pd.concat([ranked(level + noise, level - noise, model=f"m{level}") for level in (0, 100)])
    assert found(correlate(lines), "p").high < 0


def test_the_expected_sign_follows_the_catalog():
    assert expected_sign("keskar_sharpness", "test_accuracy") == -1
    assert expected_sign("keskar_sharpness", "loss_gap") == 1
    assert expected_sign("flatness", "test_accuracy") == 1
    assert expected_sign("gradient_signal_to_noise", "accuracy_gap") == 0
    assert set(COMPARED).isdisjoint(MEASURES["accuracy_gap"])


def test_measures_that_rank_alike_are_found():
    x = np.arange(8.0)
    lines = ranked(x, x, target="hessian_trace").assign(flatness=-(x**3), fisher_trace=[0, 7, 1, 6, 2, 5, 3, 4])
    pairs = redundant(lines)
    names = ["flatness", "hessian_trace", "keskar_sharpness"]  # in the order of the measures
    found_pairs = {(pair.first, pair.second) for pair in pairs.itertuples()}
    assert found_pairs == {(names[0], names[1]), (names[0], names[2]), (names[1], names[2])}
    assert sorted(pairs.rho) == [-1.0, -1.0, 1.0]


def story(sign=1, papers=("p", "q"), other=None, diverged=()):
    """Two papers of eight runs, in which sharpness goes with (or against) accuracy, and the runs it is made of."""
    values = {f"r{i}": [90.0 + i, 90.2 + i] for i in range(8)}
    runs = pd.concat([runs_frame(values, diverged, paper=paper) for paper in papers], ignore_index=True)
    signs = dict.fromkeys(papers, sign) | (other or {})
    measures = measured(
        runs,
        test_accuracy=lambda run: run.test_accuracy,
        accuracy_gap=lambda run: 100.0 - run.test_accuracy,
        keskar_sharpness=lambda run: 100.0 - signs[run.paper] * run.test_accuracy,
        flatness=lambda run: (int(run.run[1:]) * 3) % 8,
    )
    return correlate(wide(measures, runs)), measures, runs


def summary(*parts) -> str:
    """The summary as Markdown, with single spaces."""
    return "\n".join(" ".join(line.split()) for line in to_markdown(summary_blocks(*parts, "here")).splitlines())


def section(text: str, title: str) -> str:
    return text.split(f"## {title}\n")[1].split("\n## ")[0]


@pytest.mark.parametrize(("sign", "test", "gap"), [(1, "-1.00", "+1.00"), (-1, "+1.00", "-1.00")])
def test_the_marks_of_the_summary_follow_the_numbers(sign, test, gap):
    part = section(summary(*story(sign)), "What ranks runs as test accuracy and its gaps do")
    mark = "✓" if sign > 0 else "✗"
    line = next(line for line in part.splitlines() if line.startswith("| Keskar sharpness"))
    test_cell, gap_cell, loss_cell = (cell.strip() for cell in line.strip("|").split("|")[1:])
    assert test_cell.replace("0.99", "1.00") == f"{test} [{test}, {test}] {mark}"
    assert gap_cell.replace("0.99", "1.00") == f"{gap} [{gap}, {gap}] {mark}"
    assert loss_cell == "–"
    flatness = next(line for line in part.splitlines() if line.startswith("| flatness"))
    assert not set(flatness) & set("✓✗○")
    assert "(n = 16 in 2 groups)" in part
    assert f"| p | n = 8 | 1 {mark} of 2 | 1 {mark} of 2 | – |" in part


def test_the_summary_names_papers_that_disagree_and_measures_that_rank_alike():
    text = summary(*story(1, other={"q": -1}))
    part = section(text, "Where papers disagree")
    assert "Keskar sharpness and test accuracy: positive in q (+1.00, n = 8), negative in p (-1.00, n = 8)." in part
    assert "flatness and" not in part
    assert "| p | n = 8 | 1 ✓ of 2 |" in text
    assert "| q | n = 8 | 1 ✗ of 2 |" in text
    assert "Nowhere" in summary(*story(1))
    one = summary(*story(1, papers=("p",)))
    assert "Only one paper was measured." in one
    assert "Each paper" not in one
    assert "No two quantities rank runs alike" in one
    correlated, measures, runs = story(1)
    measures = pd.concat([measures, measured(runs, hessian_trace=lambda run: -run.test_accuracy)])
    alike = section(summary(correlated, measures, runs), "Measures that rank runs alike")
    assert "- Hessian trace and Keskar sharpness: +" in alike


def test_the_summary_counts_runs_intervals_and_costs():
    text = summary(*story(1, diverged=[("r0", 1)]))
    assert "Papers: 2; runs: 16; seeds of each: 2; trained networks: 32; diverged, and so without numbers: 2." in text
    # What was not asked for is not missing; what one network lacks is.
    assert "without a measure" not in text
    correlated, measures, runs = story(1)
    lost = (measures.measure == "keskar") & (measures.run == "r3") & (measures.seed == 0) & (measures.paper == "q")
    assert "Finished networks without a measure: Keskar sharpness (1)." in summary(correlated, measures[~lost], runs)
    # Two quantities with two targets, in three scopes.
    assert "Intervals: 12, of which 6 exclude 0; if no measure had to do with generalization, about 1 would" in text
    assert "Networks: 1, with 1,234 parameters" in text
    assert "| Keskar sharpness | Keskar sharpness |" in section(text, "Uncertainty and cost")
    assert "| 4 | 2.00 | 1.50 |" in text


@pytest.mark.parametrize(
    ("errors", "text"), [((0.0, 0.0), "exact"), ((None, None), "not known"), ((0.2, 0.4), "15.0 %")]
)
def test_uncertainty_is_relative_or_exact_or_not_known(errors, text):
    runs = runs_frame({"a": [1.0, 1.0]})
    measures = measured(runs, fisher_trace=2.0).assign(std_error=pd.Series(errors, dtype=float))
    assert f"| {text} |" in summary(correlate(wide(measures, runs)), measures, runs)


@pytest.mark.parametrize("status", ["finished", "diverged"])
def test_a_summary_and_a_figure_of_nothing_measured_say_so(status):
    runs = runs_frame({"a": [90.0]}).assign(status=status)
    measures = measured(runs, fisher_trace=np.nan)
    frame = correlate(wide(measures, runs))
    text = summary(frame, measures, runs)
    assert "(n = 0)" in text
    assert "Nothing was measured." in text
    assert "nan" not in text
    plt.close(correlation_figure.plot_correlations(frame, "here"))


def test_correlations_are_drawn_for_each_paper_and_target(tmp_path):
    frame = correlate(wide(*story(1)[1:]))
    figure = correlation_figure.plot_correlations(frame, "here")
    assert [axis.get_title() for axis in figure.axes] == [QUANTITIES[target].label for target in TARGETS]
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == [QUANTITIES[r].label for r in COMPARED]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["all papers\n(16 runs)", "p\n(8 runs)", "q\n(8 runs)"]
    points = [line for line in figure.axes[0].lines if line.get_label().startswith("p\n")]
    assert points[0].get_xdata()[COMPARED.index("keskar_sharpness")] == -1.0
    assert len({line.get_color() for line in figure.axes[0].lines if "runs" in line.get_label()}) == 3
    for name in ("first", "second"):
        save_figure(correlation_figure.plot_correlations(frame, "here"), tmp_path / f"{name}.svg")
    assert (tmp_path / "first.svg").read_text() == (tmp_path / "second.svg").read_text()
    one = correlation_figure.plot_correlations(correlate(wide(*story(1, papers=("p",))[1:])), "here")
    assert [text.get_text() for text in one.legends[0].get_texts()] == ["p\n(8 runs)"]
    with pytest.raises(UserError, match="nothing was measured"):
        correlation_figure.plot_correlations(frame[:0], "here")


def test_the_script_writes_tables_figure_and_summary(tmp_path):
    _, measures, runs = story()
    measures.to_csv(tmp_path / "m.csv", index=False)
    runs.to_csv(tmp_path / "r.csv", index=False)
    names = {"tidy": "csv", "wide": "csv", "csv": "csv", "md": "md", "html": "html", "correlations": "csv",
             "svg": "svg", "png": "png", "summary_md": "md", "summary_html": "html"}  # fmt: skip
    files = SimpleNamespace(**{name: str(tmp_path / f"{name}.{end}") for name, end in names.items()})
    script = runpy.run_path(str(ROOT / "workflow_scripts/summarize_measures.py"))["summarize_measures"]
    script([tmp_path / "m.csv"], [tmp_path / "r.csv"], files)
    texts = {name: (tmp_path / f"{name}.{end}").read_text() for name, end in names.items() if end not in ("svg", "png")}
    assert pd.read_csv(files.tidy).value.tolist() == measures.value.tolist()
    assert pd.read_csv(files.wide).run.tolist() == runs.run.tolist()
    assert pd.read_csv(files.correlations).shape == (3 * len(COMPARED) * len(TARGETS), 8)
    assert texts["csv"].splitlines()[1].startswith("p/r0,2,0,90.1 ± 0.1,")
    assert '<td class="right" data-run="p/r0" data-quantity="test_accuracy">90.1 ± 0.1</td>' in texts["html"]
    assert texts["summary_md"].startswith("# What the measures say\n")
    assert "<h3>Where papers disagree</h3>" in texts["summary_html"]
    assert (tmp_path / "png.png").read_bytes().startswith(b"\x89PNG")
