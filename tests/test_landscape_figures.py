"""Figures of loss landscapes, and of distributions over seeds."""

import runpy

import numpy as np
import pandas as pd
import pytest
from frames import measured, row, runs_frame

from whysgd.errors import UserError
from whysgd.measures.catalog import LANDSCAPE_COLUMNS
from whysgd.report import figures, histograms, landscapes
from whysgd.study.validation import ROOT

TABLE = {"title": "T", "columns": None, "planes": ["a", "b"],
         "rows": [row("a", "A"), row("b", "B"), row("c", "C"), {**row("d", "D"), "planned": False},
                  {**row("a", "A at its best"), "metric": "best_test_accuracy"}]}  # fmt: skip
DRAWN = [landscapes.plot_landscape, landscapes.plot_contours, landscapes.plot_surface]


@pytest.fixture(autouse=True)
def closed():
    yield
    figures.plt.close("all")


def points(runs=("a", "b", "c"), seeds=(0,), penalty=0.0, count=5) -> pd.DataFrame:
    """Parabolas, the steeper the later a run is in the list."""
    grid, lines = np.linspace(-1, 1, count), []
    for steep, run in enumerate(runs, 1):
        for seed in seeds:
            where = [("line", x, 0.0) for x in grid] + [("plane", x, y) for x in grid for y in grid]
            for kind, x, y in where:
                loss = 0.1 + seed + steep * (x * x + 2 * y * y)
                lines.append(("p", run, seed, kind, x, y, loss, 90.0 - 10 * x * x, penalty, loss + penalty))
    return pd.DataFrame(lines, columns=LANDSCAPE_COLUMNS)


def visible(figure):
    return [axis for axis in figure.axes if axis.get_visible() and axis.get_title()]


def test_profiles_have_a_panel_for_each_run_and_share_their_axes():
    figure = landscapes.plot_landscape(TABLE, points(), "here")
    panels = visible(figure)
    assert [axis.get_title() for axis in panels] == ["A", "B", "C"]
    assert [axis.get_ylabel() for axis in panels] == ["loss [nats]", "", ""]
    assert [axis.get_ylim() for axis in panels] == [pytest.approx((0, 1.05 * 3.1))] * 3
    assert panels[1].lines[0].get_ydata().tolist() == pytest.approx([2.1, 0.6, 0.1, 0.6, 2.1])
    right = [axis for axis in figure.axes if axis.get_ylabel() == "accuracy [%]"]
    assert len(right) == 1
    assert right[0].lines[0].get_ydata().tolist() == [80.0, 87.5, 90.0, 87.5, 80.0]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["loss", "training accuracy"]
    assert "here" in figure.get_suptitle()
    figures.plt.close(figure)


def test_the_trained_loss_is_dashed_where_it_is_another_one_and_high_losses_are_cut_off():
    steep = points().assign(full_loss=lambda p: np.where(p.run == "b", 100 * p.loss, p.loss))
    panels = visible(landscapes.plot_landscape(TABLE, steep, "here"))
    assert [len(axis.lines) for axis in panels] == [1, 2, 1]
    assert panels[1].lines[1].get_linestyle() == "--"
    assert panels[0].get_ylim() == (0, landscapes.TOP)
    seeds = visible(landscapes.plot_landscape(TABLE, points(seeds=(0, 1, 2)), "here"))
    assert [len(axis.lines) for axis in seeds] == [3, 3, 3]


def test_contours_share_their_levels_and_mark_the_weights():
    figure = landscapes.plot_contours(TABLE, points(), "here")
    panels = visible(figure)
    assert [axis.get_title() for axis in panels] == ["A", "B"]
    levels = [axis.collections[0].levels for axis in panels]
    assert np.array_equal(*levels)
    assert np.diff(np.log(levels[0])) == pytest.approx(np.diff(np.log(levels[0]))[0])
    assert (levels[0][0], levels[0][-1]) == (pytest.approx(0.1), pytest.approx(0.1 + 2 * 3))
    assert [axis.lines[0].get_xydata().tolist() for axis in panels] == [[[0, 0]], [[0, 0]]]
    assert "loss [nats]" in [axis.get_ylabel() for axis in figure.axes]
    everything = {name: value for name, value in TABLE.items() if name != "planes"}
    assert len(visible(landscapes.plot_contours(everything, points(), "here"))) == 3


def test_surfaces_share_their_heights():
    panels = visible(landscapes.plot_surface(TABLE, points(), "here"))
    assert [axis.get_title() for axis in panels] == ["A", "B"]
    assert [axis.get_zlim() for axis in panels] == [pytest.approx((-1.0, np.log10(6.1)))] * 2
    assert all(len(axis.collections) == 1 for axis in panels)


def test_a_plane_is_that_of_the_first_seed_with_a_loss():
    known = points(runs=("a",), seeds=(0, 1)).sample(frac=1, random_state=0)
    alpha, beta, loss = landscapes.plane(known, "a")
    assert (alpha.tolist(), beta.tolist()) == ([-1, -0.5, 0, 0.5, 1], [-1, -0.5, 0, 0.5, 1])
    assert loss[0].tolist() == pytest.approx([3.1, 2.35, 2.1, 2.35, 3.1])
    lost = known.assign(loss=known.loss.where(known.seed == 1))
    assert landscapes.plane(lost, "a")[2].min() == pytest.approx(1.1)
    one = known.assign(loss=known.loss.mask((known.alpha == 1) & (known.beta == 1)))
    assert np.isnan(landscapes.plane(one, "a")[2]).sum() == 1
    assert landscapes.plane(known, "b") is None


def test_losses_far_below_the_highest_are_clipped_so_that_a_logarithm_shows_them():
    def planes(*losses):
        return {"a": (None, None, np.array([losses])), "b": None}

    assert landscapes.loss_range(planes(0.0, 1e-9, 100.0, np.nan, np.inf)) == pytest.approx((0.01, 100.0))
    assert landscapes.loss_range(planes(2.0, 2.0)) == (1.0, 4.0)
    assert landscapes.loss_range({"a": None}) == (0.1, 1.0)


@pytest.mark.parametrize("plot", DRAWN)
@pytest.mark.parametrize("lost", ["a run", "points", "a whole run", "everything"])
def test_missing_runs_and_points_are_left_out_and_said(plot, lost, tmp_path):
    known = points()
    if lost == "points":
        known.loc[known.alpha > 0.5, ["loss", "full_loss", "accuracy"]] = np.nan
    elif lost == "a whole run":
        known.loc[known.run == "b", ["loss", "full_loss", "accuracy"]] = np.nan
    else:
        known = known[known.run == "a"] if lost == "a run" else known[:0]
    figure = plot(TABLE, known, "here")
    said = [text.get_text() for axis in figure.axes for text in axis.texts].count(landscapes.NOTHING)
    panels = 3 if plot is landscapes.plot_landscape else 2
    assert said == {"a run": panels - 1, "points": 0, "a whole run": 1, "everything": panels}[lost]
    figures.save_figure(figure, [tmp_path / "f.svg", tmp_path / "f.png"])
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("plot", DRAWN)
def test_landscapes_are_reproducible_and_name_a_table_of_which_nothing_is_run(plot, tmp_path):
    for name in ("first", "second"):
        figures.save_figure(plot(TABLE, points(), "here"), [tmp_path / f"{name}.svg"])
    assert (tmp_path / "first.svg").read_text() == (tmp_path / "second.svg").read_text()
    nothing = {**TABLE, "rows": [{**line, "planned": False} for line in TABLE["rows"]]}
    with pytest.raises(UserError, match="T: no run of the table"):
        plot(nothing, points(), "here")


@pytest.mark.parametrize("count", range(1, 13))
def test_panels_fill_lines_of_at_most_four(count):
    across = landscapes._across(count)
    down = -(-count // across)
    assert across <= 4
    assert down == -(-count // 4)
    assert across * down - count < down or count <= 4


def test_a_cell_is_named_with_its_column():
    table = {
        "title": "T",
        "rows": [row("a.x", "A", column="X"), row("a.y", "A", column="Y"), row(None, "B", column="Y")],
    }
    assert landscapes.drawn_rows(table) == {"a.x": "A (X)", "a.y": "A (Y)"}


def test_parts_of_landscapes_are_read_and_damaged_ones_named(tmp_path):
    for run, part in points(("a", "b")).groupby("run"):
        part.to_csv(tmp_path / f"{run}.csv", index=False)
    (tmp_path / "diverged.csv").write_text(",".join(LANDSCAPE_COLUMNS) + "\n")
    frame = landscapes.read_points([tmp_path / f"{name}.csv" for name in ("a", "diverged", "b")])
    pd.testing.assert_frame_equal(frame, points(("a", "b")))
    assert landscapes.read_points([tmp_path / "diverged.csv"]).empty
    for content in ("", "x,y\n1,2\n"):
        (tmp_path / "bad.csv").write_text(content)
        with pytest.raises(UserError, match=str(tmp_path / "bad.csv")):
            landscapes.read_points([tmp_path / "bad.csv"])
    with pytest.raises(UserError, match="no-such"):
        landscapes.read_points([tmp_path / "no-such.csv"])


def explored(seeds=3, diverged=()):
    values = {run: [90.0 + level + 0.1 * seed for seed in range(seeds)] for level, run in enumerate("abc")}
    runs = runs_frame(values, diverged=diverged)
    return measured(runs, keskar_sharpness=lambda run: 10.0 ** (run.seed + "abc".index(run.run))), runs


@pytest.mark.parametrize("seeds", [1, 3, 50])
def test_histograms_have_every_seed_and_the_median(seeds, tmp_path):
    measures, runs = explored(seeds)
    measures.value = measures.value.clip(upper=1e6)
    figure = histograms.plot_histograms(TABLE, measures, runs, "here")
    sharpness, accuracy = figure.axes
    assert sharpness.get_xlabel() == "Keskar sharpness [%]"
    assert accuracy.get_xlabel() == "test accuracy [%]"
    labels = [text.get_text() for text in sharpness.get_yticklabels()]
    assert labels == [f"{name}\nn = {seeds}" for name in "ABC"]
    middle = (seeds - 1) / 2
    medians = [text.get_text() for text in accuracy.texts]
    assert [float(median) for median in medians] == pytest.approx([90 + i + 0.1 * middle for i in range(3)], abs=0.06)
    # Strokes and median, for each row.
    strokes = [len(part.get_segments()) for part in accuracy.collections]
    assert strokes == [seeds, 1] * 3
    bars = [bar for bar in accuracy.patches if bar.get_height()]
    tallest = min(bar.get_height() for bar in bars)
    assert tallest == pytest.approx(-histograms.HEIGHT)
    figures.save_figure(figure, [tmp_path / "h.svg", tmp_path / "h.png"])


def test_wide_ranges_are_logarithmic_and_what_is_not_there_is_said():
    measures, runs = explored(diverged=[("a", 0)])
    figure = histograms.plot_histograms(TABLE, measures, runs[runs.run != "b"], "here")
    assert [axis.get_xscale() for axis in figure.axes] == ["log", "linear"]
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert labels == ["A\nn = 2, 1 diverged", "B\nnot run", "C\nn = 3"]
    bare = histograms.plot_histograms(TABLE, measures[:0], runs, "here")
    assert [text.get_text() for text in bare.axes[0].texts] == ["not measured"]


@pytest.mark.parametrize("kind", ["landscape", "contours", "surface", "histograms"])
def test_the_scripts_draw_from_files(kind, tmp_path):
    measures, runs = explored()
    runs.to_csv(tmp_path / "runs.csv", index=False)
    if kind == "histograms":
        measures.to_csv(tmp_path / "m.csv", index=False)
        given = tmp_path / "m.csv"
    else:
        points().to_csv(tmp_path / "p.csv", index=False)
        given = [tmp_path / "p.csv"]
    script, which = ("plot_histograms", []) if kind == "histograms" else ("plot_landscape", [kind])
    draw = runpy.run_path(str(ROOT / f"workflow_scripts/{script}.py"))[script]
    draw(TABLE, *which, given, tmp_path / "runs.csv", [tmp_path / "f.svg", tmp_path / "f.png"])
    assert "digits" in (tmp_path / "f.svg").read_text()
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")
