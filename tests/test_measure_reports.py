"""What the measures found: frames, rank correlations, the reading and the page."""

import json
import runpy
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from test_reporting import Links

from whysgd.errors import UserError
from whysgd.measures.catalog import MEASURES, QUANTITIES
from whysgd.report import correlation_figure, correlations, page
from whysgd.report.correlations import (
    OVERALL,
    RULERS,
    TARGETS,
    correlate,
    expected_sign,
    pooled,
    redundant,
    spearman,
)
from whysgd.report.document import document, to_html
from whysgd.report.measures import (
    COLUMNS,
    grouped,
    over_seeds,
    read_measures,
    readable,
    readable_to_markdown,
    rounded,
    spread,
    wide,
)
from whysgd.report.reading import write_reading
from whysgd.report.style import plt, save_figure
from whysgd.streams import stream
from whysgd.study.validation import ROOT

MEASURE_OF = {quantity: measure for measure, names in MEASURES.items() for quantity in names}


def runs_frame(values: dict, paper="p", model="m", diverged=()) -> pd.DataFrame:
    """Runs with seeds of the given test accuracies; `diverged` names those (run, seed) that did."""
    return pd.DataFrame([
        {"paper": paper, "run": run, "scale": "mini", "seed": seed, "steps": 30, "parameters": 1234,
         "status": "diverged" if (run, seed) in diverged else "finished", "test_accuracy": accuracy, "dataset": "digits",
         "train_images": 5, "held_out_images": 0, "test_images": 6, "model": model, "device": "cpu",
         "settings_digest": run}
        for run, accuracies in values.items() for seed, accuracy in enumerate(accuracies)
    ])  # fmt: skip


def measured(runs: pd.DataFrame, **quantities) -> pd.DataFrame:
    """A tidy frame with these quantities, functions of a run's line; a diverged run has none."""
    lines = [
        {**{key: run[key] for key in ("paper", "run", "scale", "seed", "status")}, "measure": MEASURE_OF[name],
         "quantity": name, "value": np.nan if run.status == "diverged" else function(run), "std_error": 0.1,
         "samples": 4, "seconds": 2.0, "cpu_seconds": 1.5}
        for _, run in runs.iterrows() for name, function in quantities.items()
    ]  # fmt: skip
    return pd.DataFrame(lines, columns=COLUMNS)


def ranked(x, y, paper="p", model="m", ruler="keskar_sharpness", target="test_accuracy") -> pd.DataFrame:
    """A wide frame of one seed per run with two quantities."""
    runs = runs_frame({f"r{place}": [0.0] for place in range(len(x))}, paper, model)
    table = {f"r{place}": pair for place, pair in enumerate(zip(x, y, strict=True))}
    return wide(measured(runs, **{ruler: lambda r: table[r.run][0], target: lambda r: table[r.run][1]}), runs)


def test_runs_of_a_paper_that_differ_in_name_alone_count_once():
    runs = runs_frame({f"r{i}": [90.0 + i] for i in range(6)})
    runs["settings_digest"] = ["a", "b", "c", "d", "e", "a"]
    lines = wide(measured(runs, keskar_sharpness=lambda run: -run.test_accuracy), runs)
    assert over_seeds(lines).run.tolist() == ["r0", "r1", "r2", "r3", "r4"]
    other = runs.assign(paper="q")
    both = pd.concat([runs, other], ignore_index=True)
    lines = wide(measured(both, keskar_sharpness=lambda run: -run.test_accuracy), both)
    assert len(over_seeds(lines)) == 10
    assert found(correlate(lines), "p").n == 5
    assert len(readable(lines)) == 12


def found(frame, scope=OVERALL, quantity="keskar_sharpness", target="test_accuracy"):
    return frame[(frame.scope == scope) & (frame.quantity == quantity) & (frame.target == target)].iloc[0]


def result(**other) -> dict:
    quantities = {"fisher_trace": {"value": 2.0, "std_error": 0.5, "samples": 3, "each": [1.5, 2.0, 2.5]}}
    return {"paper": "p", "run": "a", "scale": "mini", "seed": 0, "measure": "fisher", "status": "finished",
            "quantities": quantities, "options": {}, "cost": {"seconds": 1.0, "cpu_seconds": 2.0}, **other}  # fmt: skip


def test_measures_are_read_and_a_diverged_run_has_no_numbers(tmp_path):
    nothing = {"fisher_trace": {"value": None, "std_error": None, "samples": 0, "each": []}}
    for name, content in (("a", result()), ("b", result(seed=1, status="diverged", quantities=nothing))):
        (tmp_path / name).write_text(json.dumps(content))
    frame = read_measures([tmp_path / "a", tmp_path / "b"])
    assert frame.columns.tolist() == COLUMNS
    assert frame.iloc[0].fillna("–").tolist() == [
        "p",
        "a",
        "mini",
        0,
        "fisher",
        "finished",
        "fisher_trace",
        2.0,
        0.5,
        "–",
        "–",
        3,
        1.0,
        2.0,
        False,
    ]
    assert frame.iloc[1][["value", "std_error"]].isna().all()
    assert read_measures([]).columns.tolist() == COLUMNS


@pytest.mark.parametrize(
    "content",
    [
        "", "{", "[]", '{"paper": "p"}', json.dumps(result(cost=None)), json.dumps(result(quantities=[1])),
        json.dumps(result(quantities={"fisher_trace": 1.0})),
        json.dumps(result(quantities={"beauty": {"value": 1.0, "std_error": None, "samples": 1}})),
    ],
)  # fmt: skip
def test_damaged_measures_are_named(tmp_path, content):
    file = tmp_path / "m.json"
    file.write_text(content)
    with pytest.raises(UserError, match=str(file)):
        read_measures([file])


def test_a_wide_line_is_a_run_and_a_seed_and_what_was_not_measured_is_nan():
    runs = runs_frame({"a": [90.0, 10.0], "b": [80.0]}, diverged=[("a", 1)])
    measures = measured(runs[runs.run == "a"], keskar_sharpness=lambda run: 5.0)
    lines = wide(measures, runs)
    assert lines[["run", "seed"]].to_numpy().tolist() == [["a", 0], ["a", 1], ["b", 0]]
    assert set(QUANTITIES) <= set(lines.columns)
    assert lines.keskar_sharpness.fillna(-1).tolist() == [5.0, -1, -1]
    # The accuracy that training ended with stands in for a measured one, but not a diverged run's.
    assert lines.test_accuracy.fillna(-1).tolist() == [90.0, -1, 80.0]
    assert lines.train_accuracy.isna().all()
    assert len(wide(pd.DataFrame(columns=COLUMNS), runs)) == 3
    own = wide(measured(runs, test_accuracy=lambda run: 1.0), runs)
    assert own.test_accuracy.fillna(-1).tolist() == [1.0, -1, 1.0]


def test_the_readable_table_has_means_and_deviations_over_finished_seeds():
    runs = runs_frame({"a": [90.0, 92.0, 10.0], "b": [80.0], "c": [10.0]}, diverged=[("a", 2), ("c", 0)])
    table = readable(wide(measured(runs, hessian_trace=lambda run: 1000.0 * (1 + run.seed)), runs))
    assert table.columns.tolist() == ["run", "seeds", "diverged", "test accuracy [%]", "Hessian trace [nats]"]
    assert table.to_numpy().tolist() == [
        ["p/a", "2", "1", "91.0 ± 1.4", "1500 ± 707"],
        ["p/b", "1", "0", "80.0", "1000"],
        ["p/c", "0", "1", "–", "–"],
    ]
    assert [name for name, _ in grouped(table).columns] == ["", "", "", "accuracy gap", "Hessian"]
    markdown = readable_to_markdown(table, "here")
    assert "Measured: here." in markdown
    assert markdown.index("**Accuracy gap**") < markdown.index("91.0 ± 1.4") < markdown.index("**Hessian**")
    assert "**Flatness**" not in markdown
    both = pd.concat([runs, runs_frame({"a": [50.0]}, "q", model="n")])
    assert readable(wide(measured(both), both)).model.tolist() == ["m", "m", "m", "n"]


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


@pytest.mark.parametrize("seed", range(4))
def test_the_correlation_is_spearmans_with_ties_too(seed):
    generator = np.random.default_rng(seed)
    x, y = generator.normal(size=12), generator.integers(0, 4, 12).astype(float)
    assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)
    counts = generator.multinomial(12, np.full(12, 1 / 12), size=5)
    expected = [stats.spearmanr(np.repeat(x, c), np.repeat(y, c)).statistic for c in counts]
    assert correlations._weighted(x, y, counts) == pytest.approx(expected)


def test_nothing_varies_then_there_is_no_correlation():
    assert np.isnan(spearman(np.ones(6), np.arange(6.0)))
    line = found(correlate(ranked(np.ones(6), np.arange(6.0))))
    assert (line.n, line.networks) == (0, 0)
    assert np.isnan(line.rho)


def test_the_interval_is_the_bootstraps_and_reproducible():
    generator = np.random.default_rng(0)
    x = generator.normal(size=20)
    y = x + generator.normal(size=20)
    lines = ranked(x, y)
    line = found(correlate(lines))
    assert line.rho == pytest.approx(stats.spearmanr(x, y).statistic)
    assert (line.n, line.networks) == (20, 1)
    counts = stream(0, "bootstrap", 0).multinomial(20, np.full(20, 1 / 20), size=2000)
    resampled = [stats.spearmanr(np.repeat(x, c), np.repeat(y, c)).statistic for c in counts[:200]]
    assert correlations._resampled(x, y, stream(0, "bootstrap", 0))[:200] == pytest.approx(resampled)
    assert line.low < line.rho < line.high
    pd.testing.assert_frame_equal(correlate(lines), correlate(lines))
    assert found(correlate(ranked(x, -y))).rho == pytest.approx(-line.rho)


def test_intervals_cover_as_often_as_they_say():
    generator, missed = np.random.default_rng(1), 0
    for trial in range(300):
        x, y = generator.normal(size=(2, 12))
        low, high = correlations._interval(correlations._resampled(x, y, np.random.default_rng(trial)))
        missed += low > 0 or high < 0
    assert 0.01 < missed / 300 < 0.09


def test_fewer_than_five_runs_have_no_correlation_and_seeds_are_no_runs():
    four = found(correlate(ranked(np.arange(4.0), np.arange(4.0))))
    assert np.isnan([four.rho, four.low, four.high]).all()
    runs = runs_frame({f"r{i}": [90.0 + i, 91.0 + i, 92.0 + i] for i in range(6)})
    line = found(correlate(wide(measured(runs, keskar_sharpness=lambda run: run.test_accuracy), runs)))
    assert (line.n, line.rho) == (6, 1.0)


def test_differences_between_papers_make_no_correlation():
    """Simpson's paradox: within each paper the measure falls with accuracy, between papers it rises."""
    noise = np.array([0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    lines = pd.concat([ranked(level + noise, level - noise, f"p{level}") for level in (0, 100, 200)])
    means = over_seeds(lines)
    assert spearman(means.keskar_sharpness.to_numpy(), means.test_accuracy.to_numpy()) > 0.6
    frame = correlate(lines)
    assert frame.scope.unique().tolist() == [OVERALL, "p0", "p100", "p200"]
    line = found(frame)
    assert line.high < 0
    assert (line.n, line.networks) == (18, 3)
    assert found(frame, "p100").rho == -1.0
    # The same within one paper, between its networks.
    lines = pd.concat([ranked(level + noise, level - noise, "p", f"m{level}") for level in (0, 100)])
    assert found(correlate(lines), "p").high < 0


def test_groups_are_averaged_as_fishers_z_weighted_with_n_minus_3():
    rho = pooled(np.array([[0.5], [0.2]]), np.array([10, 24]))
    assert rho == pytest.approx(np.tanh((7 * np.arctanh(0.5) + 21 * np.arctanh(0.2)) / 28))
    assert pooled(np.array([[0.5], [np.nan]]), np.array([10, 24])) == pytest.approx(0.5)
    assert pooled(np.array([[1.0]]), np.array([5])) == 1.0
    # A few runs in perfect order do not drown many without one.
    assert pooled(np.array([[1.0], [0.0]]), np.array([5, 30])) < 0.2


def test_the_expected_sign_follows_the_catalog():
    assert expected_sign("keskar_sharpness", "test_accuracy") == -1
    assert expected_sign("keskar_sharpness", "loss_gap") == 1
    assert expected_sign("flatness", "test_accuracy") == 1
    assert expected_sign("gradient_signal_to_noise", "accuracy_gap") == 0
    assert set(RULERS).isdisjoint(MEASURES["accuracy_gap"])


def test_measures_that_rank_alike_are_found():
    x = np.arange(8.0)
    lines = ranked(x, x, target="hessian_trace").assign(flatness=-(x**3), fisher_trace=[0, 7, 1, 6, 2, 5, 3, 4])
    pairs = redundant(lines)
    names = ["keskar_sharpness", "flatness", "hessian_trace"]
    found_pairs = {(pair.first, pair.second) for pair in pairs.itertuples()}
    assert found_pairs == {(names[0], names[1]), (names[0], names[2]), (names[1], names[2])}
    assert sorted(pairs.rho) == [-1.0, -1.0, 1.0]


def story(sign=1, papers=("p", "q"), other=None, diverged=()):
    """Two papers of eight runs, in which sharpness goes with (or against) accuracy, and the runs it is made of."""
    parts = [
        runs_frame({f"r{i}": [90.0 + i, 90.2 + i] for i in range(8)}, paper, diverged=diverged) for paper in papers
    ]
    runs = pd.concat(parts, ignore_index=True)
    signs = dict.fromkeys(papers, sign) | (other or {})
    measures = measured(
        runs,
        test_accuracy=lambda run: run.test_accuracy,
        accuracy_gap=lambda run: 100.0 - run.test_accuracy,
        keskar_sharpness=lambda run: 100.0 - signs[run.paper] * run.test_accuracy,
        flatness=lambda run: (int(run.run[1:]) * 3) % 8,
    )
    return correlate(wide(measures, runs)), measures, runs


def section(text: str, title: str) -> str:
    return text.split(f"## {title}\n")[1].split("\n## ")[0]


def test_the_sentences_of_the_reading_follow_the_numbers():
    text = write_reading(*story(1), "here")
    part = section(text, "What ranks runs by test accuracy")
    assert "- As expected: Keskar sharpness -1" in part.replace("-0.99", "-1")
    assert "- The other way round: none." in part
    assert "- Undetermined, since the interval includes 0: flatness." in part
    assert "- p (n = 8 runs): as expected: Keskar sharpness -1.00; 1 of 2 undetermined." in part
    assert "Keskar sharpness +" in section(text, "What ranks runs by accuracy gap")
    assert "No correlation" in section(text, "What ranks runs by loss gap")
    assert "Nowhere" in section(text, "Where papers disagree")
    flipped = section(write_reading(*story(-1), "here"), "What ranks runs by test accuracy")
    assert "- As expected: none." in flipped
    assert "- The other way round: Keskar sharpness +" in flipped


def test_the_reading_names_papers_that_disagree():
    text = write_reading(*story(1, other={"q": -1}), "here")
    part = section(text, "Where papers disagree")
    assert "Keskar sharpness and test accuracy: positive in q (+1.00, n = 8), negative in p (-1.00, n = 8)." in part
    assert "flatness and" not in part
    assert (
        "Keskar sharpness" in section(text, "What ranks runs by test accuracy").split("Undetermined")[1].split("\n")[0]
    )
    one = write_reading(*story(1, papers=("p",)), "here")
    assert "Only one paper was measured." in one
    assert "- p (n" not in one


def test_the_reading_counts_runs_intervals_and_costs():
    text = write_reading(*story(1, diverged=[("r0", 1)]), "scale mini: digits")
    assert "Measured: scale mini: digits." in text
    assert "16 runs of 2 papers, 2 seeds each: 32 trained networks. 2 of them diverged and have no numbers." in text
    # What was not asked for is not missing; what one network lacks is.
    assert "without a measure" not in text
    assert "3 measures, which report 4 quantities. 2 of them are compared" in text
    some, measures, runs = story(1)
    lost = (measures.measure == "keskar") & (measures.run == "r3") & (measures.seed == 0) & (measures.paper == "q")
    assert "Trained networks without a measure: Keskar sharpness (1)." in write_reading(some, measures[~lost], runs, "")
    # Two quantities with two targets, in three scopes.
    assert "Of 12 intervals, 6 exclude 0; if no measure had to do with generalization, about 1 would" in text
    assert "1,234 parameters" in text
    costs = section(text, "Uncertainty and cost")
    assert "Keskar sharpness |" in costs
    assert "2.00 |" in costs
    assert "No two quantities rank runs alike" in text
    correlated, measures, runs = story(1)
    measures = pd.concat([measures, measured(runs, hessian_trace=lambda run: -run.test_accuracy)])
    alike = section(write_reading(correlated, measures, runs, "here"), "Measures that rank runs alike")
    assert "- Keskar sharpness and Hessian trace: +" in alike


@pytest.mark.parametrize(
    ("errors", "text"), [((0.0, 0.0), "exact"), ((None, None), "not known"), ((0.2, 0.4), "15.0 %")]
)
def test_uncertainty_is_relative_or_exact_or_not_known(errors, text):
    runs = runs_frame({"a": [1.0, 1.0]})
    measures = measured(runs, fisher_trace=lambda run: 2.0).assign(std_error=pd.Series(errors, dtype=float))
    assert f"| {text} |" in " ".join(write_reading(correlate(wide(measures, runs)), measures, runs, "x").split())


@pytest.mark.parametrize("status", ["finished", "diverged"])
def test_a_reading_and_a_figure_of_nothing_measured_say_so(status):
    runs = runs_frame({"a": [90.0]}).assign(status=status)
    measures = measured(runs, fisher_trace=lambda run: np.nan)
    frame = correlate(wide(measures, runs))
    text = write_reading(frame, measures, runs, "here")
    assert text.count("No correlation") == 3
    assert "Nothing was measured." in text
    assert "nan" not in text
    plt.close(correlation_figure.plot_correlations(frame, "here"))


def test_the_reading_is_rendered_and_escaped():
    text = "# T\n\nA <b>, **bold**\n\n## H & x\n\n- one\n- <i>\n\n| a | b |\n|:--|--:|\n| 1 | <u> |\n"
    html = to_html(text)
    assert html == (
        "<p>A &lt;b&gt;, <strong>bold</strong></p>\n<h3>H &amp; x</h3>\n<ul><li>one</li><li>&lt;i&gt;</li></ul>\n"
        '<div class="scroll"><table><tr><th>a</th><th class="right">b</th></tr>'
        '<tr><td>1</td><td class="right">&lt;u&gt;</td></tr></table></div>'
    )
    page = document(text, "<T>")
    assert "<title>&lt;T&gt;</title>" in page
    assert page.endswith(f"{html}\n</body>\n</html>\n")
    assert "<h1" not in to_html(write_reading(*story(), "here"))


def test_correlations_are_drawn_for_each_paper_and_target(tmp_path):
    frame = correlate(wide(*story(1)[1:]))
    figure = correlation_figure.plot_correlations(frame, "here")
    assert [axis.get_title() for axis in figure.axes] == [QUANTITIES[target].label for target in TARGETS]
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == [QUANTITIES[r].label for r in RULERS]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["all papers\n(16 runs)", "p\n(8 runs)", "q\n(8 runs)"]
    points = [line for line in figure.axes[0].lines if line.get_label().startswith("p\n")]
    assert points[0].get_xdata()[RULERS.index("keskar_sharpness")] == -1.0
    assert len({line.get_color() for line in figure.axes[0].lines if "runs" in line.get_label()}) == 3
    for name in ("first", "second"):
        save_figure(correlation_figure.plot_correlations(frame, "here"), tmp_path / f"{name}.svg")
    assert (tmp_path / "first.svg").read_text() == (tmp_path / "second.svg").read_text()
    one = correlation_figure.plot_correlations(correlate(wide(*story(1, papers=("p",))[1:])), "here")
    assert [text.get_text() for text in one.legends[0].get_texts()] == ["p\n(8 runs)"]
    with pytest.raises(UserError, match="nothing was measured"):
        correlation_figure.plot_correlations(frame[:0], "here")


def test_the_page_shows_every_run_and_the_reading_and_escapes(tmp_path):
    (tmp_path / "c.png").write_bytes(b"\x89PNG")
    correlated, measures, runs = story()
    runs["run"] = runs.run.replace("r0", "<script>")
    table = readable(wide(measures.assign(run=measures.run.replace("r0", "<script>")), runs))
    header = {"paper": "p", "title": "T", "venue": "V", "arxiv": "1",
              "out_of_scope": [{"table": "t2", "rows": ["<x>", "y"], "why": "no <data>"}]}  # fmt: skip
    contents = {
        "table": table, "caption": "C & c", "reading": write_reading(correlated, measures, runs, "<script>"),
        "figures": [{"file": tmp_path / "c.png", "caption": "F"}],
    }  # fmt: skip
    papers = [{"paper": header, "claims": None, "tables": []}]
    html = page.write_page("whysgd", "here", papers, contents)
    links = Links()
    links.feed(html)
    assert links.addresses
    assert all(address.startswith(("data:", "#")) for address in links.addresses)
    assert links.tags.count("script") == 1  # its own
    for text in ("Every run, every ruler", "C &amp; c", "p/&lt;script&gt;", "<h3>Where papers disagree</h3>",
                 "t2 (&lt;x&gt;, y): no &lt;data&gt;", 'colspan="2"', "<output aria-live"):  # fmt: skip
        assert text in html
    bare = page.write_page("whysgd", "here", papers, {"table": table, "reading": None, "figures": []})
    assert "Where papers disagree" not in bare
    assert "Every run, every ruler" not in page.write_page("whysgd", "here", papers)
    without = [{**papers[0], "paper": {**header, "out_of_scope": []}}]
    assert "Out of scope" not in page.write_page("whysgd", "here", without)


def script(name: str):
    """The function of a script of the workflow."""
    return runpy.run_path(str(ROOT / "workflow_scripts" / f"{name}.py"))[name]


def test_the_scripts_go_from_json_to_the_page(tmp_path):
    _, measures, runs = story()
    files = []
    for place, (key, lines) in enumerate(measures.groupby(["paper", "run", "seed", "measure"])):
        quantities = {
            q.quantity: {"value": q.value, "std_error": None, "samples": 1, "each": []} for q in lines.itertuples()
        }
        names = dict(zip(("paper", "run", "seed", "measure"), key, strict=True))
        files.append(tmp_path / f"{place}.json")
        files[-1].write_text(json.dumps(result(**names, quantities=quantities)))
    out = {name: str(tmp_path / name) for name in ("m.csv", "r.csv", "tidy.csv", "wide.csv", "t.csv", "t.md", "t.html",
                                                   "c.csv", "c.svg", "c.png", "r.md", "r.html", "index.html")}  # fmt: skip
    runs.to_csv(out["r.csv"], index=False)
    script("collect_measures")(files, out["m.csv"])
    tables = [out[name] for name in ("tidy.csv", "wide.csv", "t.csv", "t.md", "t.html")]
    script("tabulate_measures")([out["m.csv"]], [out["r.csv"]], *tables)
    script("plot_correlations")(out["wide.csv"], [out["r.csv"]], out["c.csv"], [out["c.svg"], out["c.png"]])
    script("write_reading")(out["c.csv"], out["tidy.csv"], [out["r.csv"]], out["r.md"], out["r.html"])
    contents = {
        "csv": out["t.csv"],
        "tidy": out["tidy.csv"],
        "caption": "C",
        "figures": [{"file": out["c.png"], "caption": "F"}],
        "reading": out["r.md"],
    }
    script("write_page")([], [out["r.csv"]], out["index.html"], contents)
    html = (tmp_path / "index.html").read_text()
    assert '<td class="right" data-run="p/r0" data-quantity="test_accuracy">90.1 ± 0.1</td>' in html
    assert "as expected: Keskar sharpness -1.00" in html
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "r.md").read_text().startswith("# What the measures say")
    assert "<h3>Where papers disagree</h3>" in (tmp_path / "r.html").read_text()
    assert '<td class="right">90.1 ± 0.1</td>' in (tmp_path / "t.html").read_text()
    script("write_page")([], [out["r.csv"]], out["index.html"])
    assert "Every run" not in (tmp_path / "index.html").read_text()


def test_reading_tables_loads_no_drawing_library():
    code = (
        "import sys, whysgd.report.correlations, whysgd.report.reading;"
        "print([name for name in ('torch', 'matplotlib', 'scipy.stats') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
