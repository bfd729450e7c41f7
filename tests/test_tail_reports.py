"""Tables of measured quantities, claims about whole tables, and the figures of grids and of gradient noise."""

import json
import math
from typing import get_args

import numpy as np
import pandas as pd
import pytest

from whysgd.errors import UserError
from whysgd.report import figures, noise_figures, page, tables, tail_figures
from whysgd.report.claims import claims_to_markdown, evaluate_check, evaluate_claims
from whysgd.report.measures import read_measures
from whysgd.report.rank_correlation import holm, rank_correlation, smallest_p
from whysgd.study.checks import ACCURACIES, MEASURED, EachComparison, TrendComparison, needed_measures, parse_check
from whysgd.study.config import load_config
from whysgd.study.paper import Figure, TableMetric
from whysgd.study.papers import claims_at, tables_at
from whysgd.study.validation import ROOT

PAPER = "simsekli2019"
# The scale mini with a grid of its own, so that another choice there changes no number here.
CONFIG = load_config()
CONFIG["scales"]["mini"]["grids"] = {PAPER: {"mnist": {"depth": [2, 4, 8], "width": [4, 16, 64, 256]}}}
TABLES = tables_at(CONFIG, PAPER)
GRID = TABLES["mnist"]


def measures(value, seeds=3, table=GRID, half=None) -> pd.DataFrame:
    """The tail index of every cell as value(axes, seed), with an interval of ± half, if given."""
    lines = []
    for row in table["rows"]:
        for seed in range(seeds):
            found = value(row["axes"], seed)
            low, high = (math.nan, math.nan) if half is None else (found - half, found + half)
            lines.append({"paper": PAPER, "run": row["run"], "scale": "mini", "seed": seed, "measure": "tail_index",
                          "quantity": "tail_index", "value": found, "low": low, "high": high})  # fmt: skip
    return pd.DataFrame(lines)


def falling(axes, seed):
    return 1.6 - 0.05 * math.log2(axes["width"]) + 0.01 * axes["depth"] + 0.001 * seed


def runs_of(*names, steps=lambda run: 650, seeds=3) -> pd.DataFrame:
    return pd.DataFrame([
        {"paper": PAPER, "run": run, "scale": "mini", "seed": seed, "status": "finished", "steps": steps(run),
         "parameters": 20_000, "test_accuracy": 90.0, "best_test_accuracy": 90.0, "best_selected_on": "test",
         "dataset": "scikit-learn digits", "train_images": 512, "held_out_images": 0, "test_images": 1285,
         "model": f"fc_{'_'.join(run.split('-')[2:])}", "device": "cpu", "stored_copies": 0}
        for run in names for seed in range(seeds)
    ])  # fmt: skip


RUNS = runs_of(*(row["run"] for row in GRID["rows"]))


def test_a_grid_of_a_measured_quantity_has_rows_columns_and_a_note_on_what_is_left_out():
    table = tables.make_table(GRID, PAPER, RUNS, measures(falling))
    assert table.columns.tolist() == ["row", "column", *tables.COLUMNS[1:-1], "metric", "note"]
    line = table[table.row == "mnist-linear_hinge-d4-w64"].iloc[0]
    assert (line.measured_mean, line.n) == (pytest.approx(1.341), 3)
    assert line.measured_std == pytest.approx(0.001)
    assert line.note == "scale mini, not the paper's: 650 steps; 24 of the grid's 162 cells"
    shown = tables.formatted(table)
    assert shown.columns.tolist() == ["label", "width 4", "width 16", "width 64", "width 256"]
    assert shown.label.tolist() == [
        f"{loss}, depth {d}" for loss in ("cross entropy", "linear hinge") for d in (2, 4, 8)
    ]
    assert shown["width 64"][4] == "1.341 ± 0.001"  # no percent, nothing published
    text = tables.to_markdown(table, "T", "S", tables.setting_of(RUNS))
    assert "Tail index of gradient noise of the trained network, mean ± standard deviation over seeds." in text
    assert "Notes: 3 seeds; scale mini, not the paper's: 650 steps; 24 of the grid's 162 cells." in text
    assert "fc_d2_w4 to fc_d8_w256 (12 networks)" in text
    assert "→" not in text
    assert r"1.341 $\pm$ 0.001" in tables.to_latex(table, "T", "S", "M")


def test_steps_that_differ_everywhere_are_a_range():
    lengths = {row["run"]: 100 + 10 * index for index, row in enumerate(GRID["rows"])}
    table = tables.make_table(GRID, PAPER, runs_of(*lengths, steps=lengths.get), measures(falling))
    assert "scale mini, not the paper's: 100 to 330 steps; 24 of the grid's 162 cells." in tables.remarks(table)
    seeds = runs_of(*lengths).assign(steps=lambda runs: 500 + 50 * runs.seed)
    table = tables.make_table(GRID, PAPER, seeds, measures(falling))
    assert table.note[0].startswith("scale mini, not the paper's: 500/550/600 steps; ")
    assert "scale mini, not the paper's: 500 to 600 steps; 24 of the grid's 162 cells." in tables.remarks(table)
    few = tables.make_table(
        GRID, PAPER, runs_of(*lengths, steps=lambda run: 100 + run.endswith("w4")), measures(falling)
    )
    assert "100 steps (cross entropy, depth 2: width 16," in tables.remarks(few)


def test_what_is_not_measured_or_has_no_number_is_said():
    gone = tables.make_table(GRID, PAPER, RUNS)
    assert gone.measured_mean.isna().all()
    assert gone.note[0].endswith("650 steps; not measured; 24 of the grid's 162 cells")
    lame = measures(lambda axes, seed: math.nan if seed == 1 and axes["depth"] == 8 else falling(axes, seed))
    line = tables.make_table(GRID, PAPER, RUNS, lame).set_index("row").loc["mnist-cross_entropy-d8-w4"]
    assert (line.n, line.measured_mean) == (2, pytest.approx(1.6 - 0.1 + 0.08 + 0.001))
    assert "no number for 1 of 3" in line.note
    names = [row["run"] for row in TABLES["iterations"]["rows"] if row["planned"]]
    rows = tables.make_table(TABLES["iterations"], PAPER, runs_of(*names), measures(falling))
    shown = tables.formatted(rows)
    assert shown.measured.tolist() == ["1.341 ± 0.001", "1.341 ± 0.001", "–", "–"]
    assert shown.note.tolist()[2] == "not at this scale"
    # Read back from CSV, as the page does.
    html = page.write_page("t", "s", [{"paper": {"paper": "p", "title": "T", "venue": "V", "arxiv": "1"}, "claims": None,
                                       "tables": [{"title": "T", "setting": "S", "table": rows, "figures": []}]}])  # fmt: skip
    assert "1.341 ± 0.001" in html


def test_every_kind_of_figure_has_a_caption_and_a_word_in_the_readme():
    kinds = get_args(Figure)
    assert {"width", "heatmap", "noise_course", "noise_norms"} <= set(kinds)
    readme = (ROOT / "README.md").read_text()
    assert [kind for kind in kinds if f"`{kind}`" not in readme] == []
    assert [kind for kind in kinds if not (ROOT / f"docs/captions/{kind}.rst").is_file()] == []
    assert set(get_args(TableMetric)) == {*ACCURACIES, *MEASURED}


def test_intervals_of_measures_are_read(tmp_path):
    result = {"paper": PAPER, "run": "a", "scale": "mini", "seed": 0, "measure": "tail_index", "status": "finished",
              "cost": {"seconds": 1, "cpu_seconds": 1}}  # fmt: skip
    number = {"value": 1.5, "std_error": 0.1, "samples": 32}
    quantities = {"tail_index": {**number, "interval": [1.3, None]}, "inactive_parameters": number,
                  "tail_index_active": {**number, "value": None, "interval": [None, None]}}  # fmt: skip
    (tmp_path / "t.json").write_text(json.dumps({**result, "quantities": quantities}))
    frame = read_measures([tmp_path / "t.json"]).set_index("quantity")
    assert frame.loc["tail_index", ["low", "high"]].tolist() == [1.3, math.inf]
    assert frame.loc[["inactive_parameters", "tail_index_active"], ["low", "high"]].isna().all(axis=None)


def test_checks_of_whole_tables_are_read():
    assert parse_check("each(a, b-1) < 2 and trend(c)") == [
        EachComparison(("a", "b-1"), 2.0, -1),
        TrendComparison(("c",)),
    ]
    assert parse_check("each(a) > -0.5") == [EachComparison(("a",), -0.5, 1)]
    assert needed_measures(["tail_index", "test_accuracy", "flatness"]) == {"tail_index", "flatness"}


ROWS = {"t": {"r": {"a": 1, "b": 2}}, "u": {"s": {"c": 1}}}


@pytest.mark.parametrize(
    ("check", "values", "intervals", "verdict"),
    [
        ("each(t) < 2", {"a": [1.0, 1.9], "b": [1.5]}, {}, "holds"),
        ("each(t) < 2", {"a": [1.0, 1.9], "b": [1.5]}, {"a": [(0.9, 1.1), (1.8, 2.1)]}, "undetermined"),
        ("each(t) < 2", {"a": [1.0, 1.9], "b": [1.5]}, {"a": [(0.9, 1.1), (1.8, math.inf)]}, "undetermined"),
        ("each(t) < 2", {"a": [1.0, 2.1], "b": [1.5]}, {}, "undetermined"),  # its mean is below, one seed is not
        ("each(t) < 2", {"a": [2.3, 2.1], "b": [1.5]}, {}, "fails"),
        ("each(t) < 2", {"a": [2.3, 2.1], "b": [1.5]}, {"a": [(2.2, 2.4), (1.9, 2.2)]}, "undetermined"),
        ("each(t) < 2", {"a": [2.3, 2.1], "b": [1.5]}, {"a": [(2.2, 2.4), (2.01, 2.2)]}, "fails"),
        ("each(t) < 2", {"a": [2.0, 2.0], "b": [1.5]}, {}, "fails"),
        ("each(t) < 2", {"a": [2.3], "b": [1.5]}, {"a": [(2.2, 2.4)]}, "undetermined"),  # one seed may be chance
        ("each(t) > 2", {"a": [2.1], "b": [2.5]}, {"a": [(2.01, 2.2)]}, "holds"),
        ("each(t) > 2", {"a": [2.1], "b": [2.5]}, {"a": [(1.99, 2.2)]}, "undetermined"),
        ("each(t) > 2", {"a": [1.1, 1.2], "b": [2.5]}, {}, "fails"),
        ("each(t) < 2", {"a": [math.nan, 1.0], "b": [1.5]}, {}, "undetermined"),
        ("each(t) < 2", {"a": [math.nan, 1.0], "b": [2.5, 2.4]}, {}, "fails"),
        ("each(t, u) < 2", {"a": [1.0], "b": [1.5]}, {}, "undetermined"),
        ("each(t, u) < 2", {"a": [1.0], "b": [1.5], "c": [1.2]}, {}, "holds"),
    ],
)
def test_verdicts_on_each_run(check, values, intervals, verdict):
    assert evaluate_check(check, values, tables=ROWS, intervals=intervals)["verdict"] == verdict


def test_the_evidence_names_the_largest_and_what_is_missing():
    values = {"a": [1.0, 1.9], "b": [1.5], "c": [2.5, 2.5]}
    found = evaluate_check("each(t) < 2", values, tables=ROWS, intervals={"b": [(1.4, 1.66)]})
    assert found["evidence"] == "each(t) < 2: 2 runs, largest 1.5 (b, its seeds' intervals up to 1.66)"
    found = evaluate_check("each(t, u) < 2", values, tables=ROWS)
    assert found["evidence"] == "each(t, u) < 2: 3 runs, largest 2.5 (c); 1 are not: c"
    many = {"t": {"r": {f"r{place}": place for place in range(9)}}}
    assert evaluate_check("each(t) < 2", {}, tables=many)["evidence"] == "not run: r0, r1, r2, r3, … (9 runs)"


def test_holm_by_hand():
    # 4 · 0.01, then max(0.04, 3 · 0.01), 2 · 0.04, and the largest as it is, but not below those before.
    assert holm([0.04, 0.01, 0.01, 0.06]) == pytest.approx([0.08, 0.04, 0.04, 0.08])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_smallest_p_is_that_of_a_perfect_order():
    assert smallest_p([1, 2, 3]) == pytest.approx(rank_correlation([1, 2, 3], [4, 5, 6])[1]) == pytest.approx(1 / 3)
    perfect = rank_correlation([1, 1, 2, 2, 3], [1, 2, 3, 4, 5])
    assert smallest_p([1, 1, 2, 2, 3]) == pytest.approx(perfect[1])


def rows_of(*names):
    """A table of rows, each of three runs at widths 4, 8 and 16."""
    return {"t": {name: {f"{name}{width}": width for width in (4, 8, 16)} for name in names}}


UP, DOWN, FLAT = [1.0, 1.1, 1.2], [1.2, 1.1, 1.0], [1.1, 1.2, 1.0]


def seeds_of(shapes, seeds=3):
    """Three seeds around each of the three values, all nine distinct."""
    return {f"{name}{width}": [level + 0.01 * seed for seed in range(seeds)]
            for name, shape in shapes.items() for width, level in zip((4, 8, 16), shape, strict=True)}  # fmt: skip


@pytest.mark.parametrize(
    ("shapes", "seeds", "verdict", "evidence"),
    [
        ({"a": UP, "b": UP}, 3, "holds", "+ in 2, − in 0, not significant in 0 (Holm p < 0.05)"),
        ({"a": UP, "b": DOWN}, 3, "holds", "+ in 1, − in 1, not significant in 0"),
        ({"a": UP, "b": FLAT}, 3, "undetermined", "+ in 1, − in 0, not significant in 1"),
        ({"a": FLAT, "b": FLAT}, 3, "undetermined", "+ in 0, − in 0, not significant in 2"),
        # Of three values no order is significant: that says nothing.
        ({"a": UP, "b": FLAT}, 1, "undetermined", "+ in 0, − in 0, not significant in 0, too few values in 2"),
        ({"a": [1.0, 1.0, 1.0]}, 3, "undetermined", "not significant in 1"),
    ],
)
def test_verdicts_on_trends(shapes, seeds, verdict, evidence):
    values = seeds_of(shapes, seeds)
    if shapes == {"a": [1.0, 1.0, 1.0]}:
        values = {run: [1.0] * 3 for run in values}
    found = evaluate_check("trend(t)", values, tables=rows_of(*shapes))
    assert found["verdict"] == verdict
    assert found["evidence"].startswith(f"trend(t), {len(shapes)} rows: ")
    assert evidence in found["evidence"]


def test_a_trend_is_corrected_for_the_number_of_rows():
    """Two seeds: a perfect order of six values has p = 2·(2!)³/6! = 1/45 = 0.022, significant once but not thrice."""
    two = {run: found[:2] for run, found in seeds_of({"a": UP, "b": UP, "c": UP}).items()}
    assert evaluate_check("trend(t)", two, tables=rows_of("a"))["verdict"] == "holds"
    assert evaluate_check("trend(t)", two, tables=rows_of("a", "b"))["verdict"] == "holds"  # 0.044
    found = evaluate_check("trend(t)", two, tables=rows_of("a", "b", "c"))
    assert (found["verdict"], "too few values in 3" in found["evidence"]) == ("undetermined", True)


def test_seeds_without_a_number_are_left_out_of_a_trend():
    values = {**seeds_of({"a": UP}), "a8": [1.1, math.nan, 1.11]}
    found = evaluate_check("trend(t)", values, tables=rows_of("a"))
    assert found["verdict"] == "holds"
    assert found["evidence"].endswith("; 1 of 9 values are no numbers and left out")


def test_the_papers_claims_are_judged():
    claims = claims_at(CONFIG, PAPER)
    verdicts = evaluate_claims(claims, PAPER, RUNS, RUNS, measures(falling, half=0.05))
    # What is run agrees, but the claims are about more.
    assert verdicts.verdict.tolist() == ["undetermined", "undetermined"]
    assert verdicts.evidence[0] == (
        "each(mnist) < 2: 24 runs, largest 1.58 (mnist-cross_entropy-d8-w4, its seeds' intervals up to 1.63);"
        " not at this scale: each(cifar10, alexnet) < 2"
    )
    assert "− in 6, not significant in 0" in verdicts.evidence[1]
    everywhere = [{**claim, "left_out": []} for claim in claims]
    assert set(evaluate_claims(everywhere, PAPER, RUNS, RUNS, measures(falling)).verdict) == {"holds"}
    high = measures(lambda axes, seed: 2.5 if axes["depth"] == 2 else 1.0)
    assert evaluate_claims(claims, PAPER, RUNS, RUNS, high).verdict.tolist() == ["fails", "undetermined"]
    nothing = evaluate_claims(claims, PAPER, RUNS, RUNS)
    assert nothing.evidence[0].startswith("not measured: mnist-cross_entropy-d2-w4, ")
    text = claims_to_markdown(verdicts, "here")
    assert "About tail index of gradient noise of the trained network. each(…) takes every run" in text
    assert "corrected for the number of rows by Holm's method" in text


def test_the_figure_of_widths_has_a_line_for_each_depth_and_the_gaussian(tmp_path):
    frame = measures(falling)
    figure = tail_figures.plot_width(GRID, frame, "here")
    assert [axis.get_title() for axis in figure.axes] == ["cross entropy", "linear hinge"]
    assert [axis.get_xlabel() for axis in figure.axes] == ["width", "width"]
    axis = figure.axes[0]
    assert (axis.get_xscale(), axis.get_ylabel()) == ("log", "tail index of gradient noise")
    lines = {line.get_label(): line for line in axis.lines if line.get_label() in "248"}
    assert list(lines) == ["2", "4", "8"]
    assert lines["4"].get_xdata().tolist() == [4, 16, 64, 256]
    mean = 1.6 - 0.05 * np.log2([4, 16, 64, 256]) + 0.04 + 0.001
    assert lines["4"].get_ydata() == pytest.approx(mean)
    dots = [line for line in axis.lines if line.get_marker() == "o"]
    assert sum(len(line.get_xdata()) for line in dots) == 3 * 4 * 3
    assert any(list(line.get_ydata()) == [2.0, 2.0] for line in axis.lines)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["2", "4", "8"]
    assert figure.get_suptitle().endswith("here; n = 3 seeds")
    figures.save_figure(figure, [tmp_path / "width.svg", tmp_path / "width.png"])
    assert (tmp_path / "width.png").read_bytes().startswith(b"\x89PNG")


def test_the_map_has_a_number_in_each_cell():
    lame = measures(
        lambda axes, seed: math.nan if axes == {"loss": "linear_hinge", "depth": 8, "width": 4} else falling(axes, seed)
    )
    figure = tail_figures.plot_heatmap(GRID, lame, "here")
    first, second, bar = figure.axes
    numbers = [[text.get_text() for text in axis.texts] for axis in (first, second)]
    assert numbers[0][:5] == ["1.52", "1.42", "1.32", "1.22", "1.54"]
    assert len(numbers[1]) == 12
    assert numbers[1][8] == "–"
    assert [label.get_text() for label in first.get_yticklabels()] == ["2", "4", "8"]
    assert (first.get_ylabel(), first.get_xlabel(), bar.get_ylabel()) == (
        "depth",
        "width",
        "tail index of gradient noise",
    )


def test_a_grid_of_names_has_colours_of_the_palette():
    table = tables_at(load_config(settings={"scale": "paper"}), PAPER)["alexnet"]
    frame = measures(lambda axes, seed: 1.5 - axes["channels"] / 500, table=table, seeds=1)
    figure = tail_figures.plot_width(table, frame, "here")
    assert [axis.get_title() for axis in figure.axes] == ["CIFAR-10", "CIFAR-100"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["cross entropy", "linear hinge"]
    assert figure.get_suptitle().endswith("n = 1 seed")
    with pytest.raises(UserError, match="nothing was measured of the table's grid"):
        tail_figures.plot_width(table, frame[:0], "here")


def course(run, seed, end):
    steps = [step for step in (0, 1, 5, 20, 80, 300) if step < end] + [end]
    lines = [{"run": run, "seed": seed, "step": step, "tail_index": 1.5 - 0.001 * step + 0.1 * seed,
              "tail_index_low": 1.4 - 0.001 * step, "tail_index_high": 1.7 - 0.001 * step} for step in steps]  # fmt: skip
    norms = [{"run": run, "seed": seed, "step": step, "mini_batch": b, "noise_norm": 0.5 + b / 32 * (step > 0)}
             for step in (0, end) for b in range(32)]  # fmt: skip
    history = [{"run": run, "seed": seed, "step": step, "train_loss": 1 / step, "train_accuracy": 50 + step / 13,
                "test_accuracy": 40 + step / 13} for step in (43, 86, end)]  # fmt: skip
    return lines, norms, [*history, {"run": run, "seed": seed, "step": 44, "train_loss": math.nan}]


FC = ["mnist-cross_entropy-d4-w64", "mnist-linear_hinge-d4-w64"]
PARTS = [course(run, seed, 650 if run == FC[1] else 200 + 100 * seed) for run in FC for seed in (0, 1)]
NOISE, NORMS, HISTORY = (pd.DataFrame([line for part in PARTS for line in part[place]]) for place in range(3))


def test_the_course_of_the_noise_has_a_colour_for_each_run_and_a_dot_where_it_ends(tmp_path):
    figure = noise_figures.plot_noise_course(TABLES["iterations"], NOISE, HISTORY, "here")
    tail, loss, accuracy = figure.axes
    assert [axis.get_ylabel() for axis in figure.axes] == [
        "tail index of gradient noise", "training loss (each run's own)", "accuracy [%]"
    ]  # fmt: skip
    assert tail.get_xscale() == "symlog"
    solid = [line for line in tail.lines if line.get_linestyle() == "-"]
    means = solid[0]
    # Seed 0 ends after 200 steps, seed 1 after 300: from there on it is alone.
    assert means.get_xdata().tolist() == [0, 1, 5, 20, 80, 300]
    assert means.get_ydata() == pytest.approx([1.55, 1.549, 1.545, 1.53, 1.47, 1.3])
    ends = [(line.get_xdata()[0], round(line.get_ydata()[0], 6)) for line in tail.lines if line.get_marker() == "o"]
    assert ends == [(200, 1.3), (300, 1.3), (650, 0.85), (650, 0.95)]
    assert len([line for line in loss.lines if line.get_marker() != "o"]) == 4
    assert len([line for line in accuracy.lines if line.get_marker() != "o"]) == 8
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names[:2] == ["FC, depth 4, width 64, cross entropy", "FC, depth 4, width 64, linear hinge"]
    figures.save_figure(figure, [tmp_path / "course.png"])


def test_noise_norms_are_in_units_of_their_root_mean_square(tmp_path):
    runs = runs_of(*FC, seeds=1)
    figure = noise_figures.plot_noise_norms(TABLES["iterations"], NORMS, runs, "here")
    assert len(figure.axes) == 2
    norms = 0.5 + np.arange(32) / 32
    rms = np.sqrt(np.mean(norms**2))
    title = figure.axes[0].get_title()
    assert f"root mean square 0.5 → {rms:.3g} in 200 steps; Gaussian ± {196 / math.sqrt(40_000):.2g} %" in title
    for axis in figure.axes:
        shares = [patch.get_data().values for patch in axis.patches if hasattr(patch, "get_data")]
        assert [share.sum() for share in shares] == pytest.approx([100, 100])
    assert "32 mini-batches, first seed" in figure.get_suptitle()
    figures.save_figure(figure, [tmp_path / "norms.png"])
    with pytest.raises(UserError, match="the noise of no run was measured"):
        noise_figures.plot_noise_norms(TABLES["iterations"], NORMS[:0], runs, "here")


def test_layers_have_a_line_each_for_their_weights_and_gradients(tmp_path):
    lines = [{"run": run, "seed": seed, "step": step, "layer": name, "weight_norm": 3.0 + index + seed, "gradient_norm": 0.1 * step + index}
             for place, run in enumerate(FC) for seed in (0, 1) for step in (0, 1, 9)
             for index, name in enumerate(["a.weight", "a.bias", "b.weight", "c.weight"][: 4 - place])]  # fmt: skip
    figure = noise_figures.plot_layer_norms(TABLES["iterations"], pd.DataFrame(lines), "here")
    assert [len(axis.lines) for axis in figure.axes] == [3, 2, 3, 2]
    weights, fewer, gradients, _ = figure.axes
    assert [list(line.get_ydata()) for line in weights.lines] == [[3.0] * 3, [5.0] * 3, [6.0] * 3]
    assert list(gradients.lines[1].get_ydata()) == pytest.approx([2.0, 2.1, 2.9])
    # A layer has the same colour in all panels.
    assert [line.get_color() for line in fewer.lines] == [line.get_color() for line in weights.lines[:2]]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["1", "2", "3"]
    figures.save_figure(figure, [tmp_path / "layers.png"])


@pytest.mark.parametrize("parameters", [200, 2000])
def test_the_gaussian_width_holds_95_percent_of_the_norms(parameters):
    entries = np.random.default_rng(0).standard_normal((2000, parameters))
    ratios = np.linalg.norm(entries, axis=1) / math.sqrt(parameters)
    inside = np.abs(ratios - 1) < noise_figures.half_width(parameters)
    assert inside.mean() == pytest.approx(0.95, abs=0.015)
