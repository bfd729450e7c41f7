"""What the measures found: frames, the table for readers, rank correlations and the summary."""

import json
import re
import runpy
from itertools import combinations, product
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, one_line
from drawing import spoken
from frames import measured, runs_frame
from scipy import stats

from whysgd.measures.catalog import MEASURES, QUANTITIES
from whysgd.report import correlation_figure
from whysgd.report.correlations import (
    COEFFICIENTS,
    COMPARED,
    OVERALL,
    TARGETS,
    correlate,
    expected_sign,
    sides,
)
from whysgd.report.measures import COLUMNS, measures_table, over_seeds, read_measures, rounded, spread, wide
from whysgd.report.statistics import resamples
from whysgd.report.style import plt, save_figure
from whysgd.report.summary import summary_blocks
from whysgd.report.table import Cell, to_markdown
from whysgd.streams import stream


def ranked(x, y, **names) -> pd.DataFrame:
    """A wide frame of one seed per run with sharpness and test accuracy, all with the same training loss."""
    runs = runs_frame({f"r{place}": [0.0] for place in range(len(x))}, **names)
    pairs = {f"r{place}": pair for place, pair in enumerate(zip(x, y, strict=True))}
    x_and_y = {"keskar_sharpness": lambda r: pairs[r.run][0], "test_accuracy": lambda r: pairs[r.run][1]}
    return wide(measured(runs, **x_and_y, train_loss=1.0), runs)


def found(frame, scope=OVERALL, quantity="keskar_sharpness", target="test_accuracy", coefficient="tau"):
    names = {"scope": scope, "quantity": quantity, "target": target, "coefficient": coefficient}
    return frame[(frame[list(names)] == pd.Series(names)).all(axis=1)].iloc[0]


def result(**other) -> dict:
    trace = {"value": 2.0, "std_error": 0.5, "samples": 3, "each": [1.5, 2.0, 2.5], "interval": [1.0, None]}
    return {"paper": "p", "run": "a", "scale": "mini", "seed": 0, "measure": "fisher", "status": "finished", "options": {},
            "quantities": {"fisher_trace": trace}, "cost": {"seconds": 1.0, "cpu_seconds": 2.0}, **other}  # fmt: skip


def test_measures_are_read_and_a_diverged_run_has_no_numbers(tmp_path):
    nothing = {"fisher_trace": {"value": None, "std_error": None, "samples": 0, "each": [], "interval": [None, None]}}
    (tmp_path / "a").write_text(json.dumps([result(), result(seed=1, status="diverged", quantities=nothing)]))
    alone = result(quantities={"flatness": {"value": 1, "std_error": None, "samples": 1}})
    (tmp_path / "b").write_text(json.dumps([alone]))
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
    with one_line(str(file)):
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
    runs["settings"] = [json.dumps({"lr": lr}) for lr in (1, 2, 3, 4, 5, 1)]
    both = pd.concat([runs, runs.assign(paper="q")], ignore_index=True)
    lines = wide(measured(both, keskar_sharpness=lambda run: -run.test_accuracy), both)
    assert over_seeds(lines).run.tolist() == 2 * ["r0", "r1", "r2", "r3", "r4"]
    assert found(correlate(lines), "p").runs == 5


def compared(own, others=None) -> pd.DataFrame:
    """A wide frame with runs of these settings, losses and numbers: (settings, loss, sharpness, accuracy) of each."""
    runs = pd.concat(
        [runs_frame({f"{name}{place}": [0.0] for place in range(len(part))}, paper=name)
         .assign(settings=[json.dumps(settings) for settings, *_ in part])
         for name, part in {"p": own, "q": others or []}.items() if part],
        ignore_index=True,
    )  # fmt: skip
    numbers = dict(zip(runs.run, [numbers for part in (own, others or []) for _, *numbers in part], strict=True))
    names = ("train_loss", "keskar_sharpness", "test_accuracy")
    values = {name: lambda run, place=place: numbers[run.run][place] for place, name in enumerate(names)}
    return wide(measured(runs, **values), runs)


def slow(groups, weights=None, side=-1) -> dict[str, float]:
    """All coefficients by loops over pairs of runs; `weights` says how often each run of each group is there."""
    pairs, environments = {"tau": [], "tau_at_loss": []}, {}
    for number, group in enumerate(groups):
        for i, j in combinations(range(len(group)), 2):
            (a, loss, x, g), (b, other, y, h) = group[i], group[j]
            weight = 1 if weights is None else weights[number][i] * weights[number][j]
            sign = 0 if x == y or g == h else 1 if (x < y) == (g < h) else -1
            pairs["tau"].append((weight, sign))
            if max(loss, other, 0.01) <= 2 * max(min(loss, other), 0.01):
                pairs["tau_at_loss"].append((weight, sign))
            changed = [key for key in a.keys() | b.keys() if a.get(key) != b.get(key)]
            if len(changed) == 1:
                environments.setdefault((number, *changed), []).append((weight, sign))

    def tau(part):
        total = sum(weight for weight, _ in part)
        return sum(weight * sign for weight, sign in part) / total if total else np.nan

    each = [tau(part) for part in environments.values() if len(part) >= 5 and sum(weight for weight, _ in part)]
    return {**{name: tau(part) for name, part in pairs.items()}, "psi": sum(each) / len(each) if each else np.nan,
            "sign_error": max(((1 - side * one) / 2 for one in each), default=np.nan)}  # fmt: skip


def drawn(generator, n) -> list[tuple]:
    """Runs of different settings, with losses over three decades, and ties."""
    grid = list(product(range(2), range(3), range(3)))
    settings = [dict(zip(("lr", "clip", "schedule"), grid[place], strict=True)) for place in generator.permutation(18)]
    settings[0]["held_out"] = 0.1  # of this run alone
    return [(one, float(10 ** generator.uniform(-3.5, 0)), float(generator.integers(0, 8)), float(generator.normal()))
            for one in settings[:n]]  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
def test_each_coefficient_is_that_of_a_loop_over_pairs(seed):
    generator = np.random.default_rng(seed)
    own, others = drawn(generator, 15), drawn(generator, 12)
    frame = correlate(compared(own, others))
    for scope, groups in {OVERALL: [own, others], "p": [own], "q": [others]}.items():
        expected = slow(groups)
        for coefficient in COEFFICIENTS:
            line = found(frame, scope, coefficient=coefficient)
            assert line.value == pytest.approx(expected[coefficient], nan_ok=scope == "q"), (scope, coefficient)
            assert line.runs == sum(map(len, groups))
    assert found(frame).pairs == sum(len(part) * (len(part) - 1) // 2 for part in (own, others))
    assert found(frame, coefficient="tau_at_loss").pairs < found(frame).pairs


def test_each_interval_is_that_of_loops_over_the_same_resamples():
    generator = np.random.default_rng(7)
    settings = [{"lr": lr, "clip": clip} for lr in range(4) for clip in range(2)]
    own = [(one, 10.0 ** generator.uniform(-1, 0), *generator.normal(size=2)) for one in settings]
    frame = correlate(compared(own))
    every = [slow([own], [counts]) for counts in resamples(len(own), stream(0, "bootstrap", 0))[1:]]
    for coefficient in COEFFICIENTS:
        line = found(frame, "p", coefficient=coefficient)
        values = np.array([one[coefficient] for one in every])
        assert (line.low, line.high) == pytest.approx(tuple(np.nanquantile(values, [0.025, 0.975]))), coefficient
        assert found(frame, coefficient=coefficient).low == line.low
    assert found(frame, "p", coefficient="psi").parts == 1  # of clip alone there are four pairs
    pd.testing.assert_frame_equal(frame, correlate(compared(own)))


def test_tau_is_scipys():
    x, y = np.random.default_rng(0).normal(size=(2, 20))
    line = found(correlate(ranked(x, x + y)))
    assert line.value == pytest.approx(stats.kendalltau(x, x + y).statistic)
    assert (line.runs, line.pairs, line.parts) == (20, 190, 1)
    assert found(correlate(ranked(x, -x - y))).value == pytest.approx(-line.value)


def test_a_correlation_that_the_training_loss_makes_is_gone_at_the_same_loss():
    """Sharpness and accuracy both follow the loss and are independent otherwise; losses below the floor are alike."""
    generator = np.random.default_rng(0)
    losses = [0.002, 0.008, 1.0, 1.8] * 10
    own = [({"lr": n}, loss, np.log(loss) + generator.normal(), -np.log(loss) + generator.normal())
           for n, loss in enumerate(losses)]  # fmt: skip
    frame = correlate(compared(own))
    raw, same = found(frame), found(frame, coefficient="tau_at_loss")
    assert raw.high < -0.3
    assert same.low < 0 < same.high
    assert (raw.pairs, same.pairs) == (40 * 39 // 2, 2 * (20 * 19 // 2))


def test_runs_with_another_loss_function_are_not_compared():
    own = [({"loss": loss, "lr": n}, 1.0, float(n), float(n)) for loss in ("a", "b") for n in range(5)]
    assert (found(correlate(compared(own))).pairs, found(correlate(compared(own))).parts) == (20, 2)


def test_means_that_differ_by_rounding_alone_are_tied():
    seeds = {"r0": [0.1, 0.2, 0.3], "r1": [0.3, 0.2, 0.1], **{f"r{i}": [float(i)] * 3 for i in range(2, 6)}}
    runs = runs_frame(seeds)
    numbers = {"keskar_sharpness": lambda run: run.test_accuracy, "accuracy_gap": lambda run: int(run.run[1:])}
    lines = wide(measured(runs, **numbers), runs)
    assert over_seeds(lines).keskar_sharpness[:2].tolist() == [0.2, 0.2]
    assert found(correlate(lines), target="accuracy_gap").value == pytest.approx(14 / 15)


def test_fewer_than_five_runs_or_nothing_that_varies_have_no_correlation_and_seeds_are_no_runs():
    for x in (np.arange(4.0), np.ones(6)):
        line = found(correlate(ranked(x, np.arange(float(len(x))))))
        assert (line.runs, line.pairs, line.parts) == (0, 0, 0)
        assert np.isnan([line.value, line.low, line.high]).all()
    runs = runs_frame({f"r{i}": [90.0 + i, 91.0 + i, 92.0 + i] for i in range(6)})
    frame = correlate(wide(measured(runs, keskar_sharpness=lambda run: run.test_accuracy), runs))
    assert (found(frame).runs, found(frame).value) == (6, 1.0)
    # Without a training loss nothing is known to be at the same.
    assert np.isnan(found(frame, coefficient="tau_at_loss").value)


def test_an_order_without_exception_needs_ten_pairs_for_an_interval():
    def at_the_same_loss(*losses):
        own = [({"lr": n}, loss, float(n), float(n)) for n, loss in enumerate(losses)]
        return found(correlate(compared(own)), coefficient="tau_at_loss")

    whole, few = at_the_same_loss(1, 1, 1, 1, 1), at_the_same_loss(1, 1, 1, 1, 9)
    assert (whole.pairs, whole.value, whole.low, whole.high) == (10, 1.0, 1.0, 1.0)
    assert (few.pairs, few.value) == (6, 1.0)
    assert np.isnan([few.low, few.high]).all()
    assert sides(pd.DataFrame([whole, few])).tolist() == [-1, 0]


def test_differences_between_papers_make_no_correlation():
    """Simpson's paradox: within each paper the measure falls with accuracy, between papers it rises."""
    noise = np.arange(6.0)
    lines = pd.concat([ranked(level + noise, level - noise, paper=f"p{level}") for level in (0, 100, 200)])
    means = over_seeds(lines)
    assert stats.kendalltau(means.keskar_sharpness, means.test_accuracy).statistic > 0.4
    frame = correlate(lines)
    assert frame.scope.unique().tolist() == [OVERALL, "p0", "p100", "p200"]
    for coefficient in ("tau", "tau_at_loss", "psi"):
        line = found(frame, coefficient=coefficient)
        assert (line.value, line.high, line.runs, line.parts) == (-1.0, -1.0, 18, 3)
        assert found(frame, "p100", coefficient=coefficient).value == -1.0
    assert found(frame, coefficient="sign_error").value == 0.0
    # The same within one paper, between its networks.
    lines = pd.concat([ranked(level + noise, level - noise, model=f"m{level}") for level in (0, 100)])
    assert found(correlate(lines), "p").high < 0


def test_the_expected_sign_follows_the_catalog():
    assert expected_sign("keskar_sharpness", "test_accuracy") == -1
    assert expected_sign("keskar_sharpness", "loss_gap") == 1
    assert expected_sign("flatness", "test_accuracy") == 1
    assert expected_sign("gradient_signal_to_noise", "accuracy_gap") == 0
    assert set(COMPARED).isdisjoint(MEASURES["accuracy_gap"])


def story(sign=1, papers=("p", "q"), diverged=()):
    """Two papers of eight runs, in which sharpness goes with (or against) accuracy, and the runs it is made of."""
    values = {f"r{i}": [90.0 + i, 90.2 + i] for i in range(8)}
    runs = pd.concat([runs_frame(values, diverged, paper=paper) for paper in papers], ignore_index=True)
    measures = measured(
        runs, test_accuracy=lambda run: run.test_accuracy, accuracy_gap=lambda run: 100.0 - run.test_accuracy,
        keskar_sharpness=lambda run: 100.0 - sign * run.test_accuracy,
        flatness=lambda run: (int(run.run[1:]) * 3) % 8, train_loss=1.0,
    )  # fmt: skip
    return correlate(wide(measures, runs)), measures, runs


def summary(*parts) -> str:
    """The summary as Markdown, with single spaces."""
    return "\n".join(" ".join(line.split()) for line in to_markdown(summary_blocks(*parts, "here")).splitlines())


@pytest.mark.parametrize(("sign", "test", "gap"), [(1, "-1.00", "+1.00"), (-1, "+1.00", "-1.00")])
def test_the_marks_of_the_summary_follow_the_numbers(sign, test, gap):
    part = summary(*story(sign))
    mark = "✓" if sign > 0 else "✗"
    parts = dict(zip(("test", "gap", "loss"), part.split("**")[4::2], strict=False))
    named = re.compile(r"^\| Keskar sharpness.*", re.MULTILINE)
    lines = {title: named.search(text)[0] for title, text in parts.items()}
    wrong = "0.00 [0.00, 0.00]" if sign > 0 else "1.00 [1.00, 1.00]"
    for title, value in (("test", test), ("gap", gap)):
        cell = f"{value} [{value}, {value}] {mark}"
        assert lines[title] == f"| Keskar sharpness | {cell} | {cell} | {cell} | {wrong} |"
    # Nothing is known of the loss gap, nor of other measures than these two.
    assert set(lines) == {"test", "gap"}
    assert f"Measures without a number are left out: {len(COMPARED) - 2}." in part
    flatness = next(line for line in part.splitlines() if line.startswith("| flatness"))
    assert not set(flatness) & set("✓✗○")
    assert "n = 16 in 2 groups, 56 of 56 pairs at the same loss" in part


def test_the_summary_counts_runs_and_intervals():
    text = summary(*story(1, diverged=[("r0", 1)]))
    assert "Papers: 2; runs: 16; seeds of each: 2; trained networks: 32; diverged, and so without numbers: 2." in text
    # What was not asked for is not missing; what one network lacks is.
    assert "without a measure" not in text
    correlated, measures, runs = story(1)
    lost = (measures.measure == "keskar") & (measures.run == "r3") & (measures.seed == 0) & (measures.paper == "q")
    assert "Finished networks without a measure: Keskar sharpness (1)." in summary(correlated, measures[~lost], runs)
    # Two quantities with two targets, over both papers, as the table has them.
    assert "loss: 4, of which 2 exclude 0; if no measure had to do with generalization, about 0 would" in text


@pytest.mark.parametrize("status", ["finished", "diverged"])
def test_a_summary_and_a_figure_of_nothing_measured_say_so(status):
    runs = runs_frame({"a": [90.0]}).assign(status=status)
    measures = measured(runs, fisher_trace=np.nan)
    frame = correlate(wide(measures, runs))
    text = summary(frame, measures, runs)
    assert ", n = 0." in text
    assert "nan" not in text
    figure = correlation_figure.plot_correlations(frame, "here")
    assert figure.get_suptitle().endswith("flatter or quieter minima generalize better")
    plt.close(figure)


def test_correlations_are_drawn_for_each_paper_and_target(tmp_path):
    frame = correlate(wide(*story(1)[1:]))
    figure = correlation_figure.plot_correlations(frame, "here")
    # Nothing is known of the loss gap, so it has no panel.
    assert [axis.get_title() for axis in figure.axes] == ["test accuracy", "accuracy gap"]
    shown = [name for name in COMPARED if name in set(frame[frame.value.notna()].quantity)]
    assert len(shown) < len(COMPARED)
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == [QUANTITIES[r].label for r in shown]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[:2] == ["p\n(28 of 28 pairs)", "q\n(28 of 28 pairs)"]
    assert [label.split(":")[0] for label in labels[2:]] == ["filled", "open", "shaded"]
    points = [line for line in figure.axes[0].lines if line.get_label().startswith("p\n")]
    assert points[0].get_xdata()[shown.index("keskar_sharpness")] == -1.0
    assert len({line.get_color() for line in figure.axes[0].lines if "pairs)" in line.get_label()}) == 2
    for name in ("first", "second"):
        save_figure(correlation_figure.plot_correlations(frame, "here"), tmp_path / f"{name}.svg")
    assert (tmp_path / "first.svg").read_text() == (tmp_path / "second.svg").read_text()
    one = correlation_figure.plot_correlations(correlate(wide(*story(1, papers=("p",))[1:])), "here")
    assert [text.get_text() for text in one.legends[0].get_texts()] == ["p\n(28 of 28 pairs)", *labels[2:]]
    # Sharpness with test accuracy and its gap; flatness with neither.
    said = "2 of 4 correlations say that flatter or quieter minima generalize better, 0 that they do not, and 2 neither"
    assert spoken(one) == f"At the same training loss, {said}"
    assert one.get_label().endswith("; of all pairs of runs better in 2 and worse in 0 of 4")
    assert "Keskar sharpness better in 2 and worse in 0 of 2" in one.get_label()
    silent = correlate(wide(*story(1, papers=("p",))[1:])).assign(low=-1.0, high=1.0)
    title = spoken(correlation_figure.plot_correlations(silent, "here"))
    assert title.startswith("At the same training loss, none of 4 correlations with an interval says whether flatter")
    few = correlation_figure.plot_correlations(correlate(wide(*story(1)[1:]).query("run == 'r0'")), "here")
    assert [axis.texts[0].get_text() for axis in few.axes] == ["too few runs"]
    assert few.get_figheight() < figure.get_figheight()


def test_the_script_writes_tables_figure_and_summary(tmp_path):
    _, measures, runs = story()
    measures.to_csv(tmp_path / "m.csv", index=False)
    runs.to_csv(tmp_path / "r.csv", index=False)
    names = {"tidy": "csv", "wide": "csv", "md": "md", "html": "html", "correlations": "csv",
             "svg": "svg", "png": "png", "summary_md": "md", "summary_html": "html"}  # fmt: skip
    files = SimpleNamespace(**{name: str(tmp_path / f"{name}.{end}") for name, end in names.items()})
    script = runpy.run_path(str(ROOT / "workflow_scripts/summarize_measures.py"))["summarize_measures"]
    script([tmp_path / "m.csv"], [tmp_path / "r.csv"], files)
    texts = {name: (tmp_path / f"{name}.{end}").read_text() for name, end in names.items() if end not in ("svg", "png")}
    assert pd.read_csv(files.tidy).value.tolist() == measures.value.tolist()
    assert pd.read_csv(files.wide).run.tolist() == runs.run.tolist()
    assert pd.read_csv(files.correlations).shape == (3 * len(COMPARED) * len(TARGETS) * 4, 10)
    assert '<td class="right" data-run="p/r0" data-quantity="test_accuracy">90.1 ± 0.1</td>' in texts["html"]
    assert texts["summary_md"].startswith("# What the measures say\n")
    assert "Intervals at the same training loss: " in texts["summary_html"]
    assert (tmp_path / "png.png").read_bytes().startswith(b"\x89PNG")
