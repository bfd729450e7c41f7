"""Figures of loss landscapes: profiles along lines, and contours over planes."""

import numpy as np
import pytest
from conftest import one_line
from drawing import draw, points_of, row, table_of

from whysgd.report.figures import _panels, _planes, landscape

LINE = points_of("abc", "line")
DRAWN = {"landscape": "line", "contours": "plane"}


def panels(figure):
    return [axis for axis in figure.axes if axis.get_visible() and axis.get_title(loc="left")]


def test_profiles_have_a_column_for_each_run_and_a_line_for_each_seed():
    figure = draw("landscape")
    losses, accuracies = figure.axes[:3], figure.axes[3:]
    assert [axis.get_title(loc="left") for axis in losses] == ["A", "B", "C"]
    assert [axis.get_ylabel() for axis in figure.axes] == ["loss [nats]", "", "", "accuracy [%]", "", ""]
    assert [axis.get_ylim() for axis in losses] == [pytest.approx((0, 1.05 * 3.1))] * 3
    assert losses[1].lines[0].get_ydata().tolist() == pytest.approx([2.1, 0.6, 0.1, 0.6, 2.1])
    assert accuracies[2].lines[0].get_ydata().tolist() == [80.0, 87.5, 90.0, 87.5, 80.0]
    steep = draw("landscape", line=LINE.assign(loss=100 * LINE.loss))
    assert steep.axes[0].get_ylim() == (0, landscape.TOP)
    # Seeds without any loss have no line; the dashed one is the level of the title.
    known = points_of("abc", "line", (0, 1, 2))
    known.loc[(known.run == "b") & (known.seed == 0), "loss"] = np.nan
    seeds = draw("landscape", line=known)
    assert [len(axis.lines) for axis in seeds.axes] == [4, 3, 4, 3, 2, 3]


def test_the_title_says_whose_loss_is_low_on_the_most():
    title = draw("landscape").get_suptitle()
    assert title == "The loss is below 1 nat on 60 % of the line, whatever the row"
    steep = LINE.assign(loss=np.where(LINE.run == "c", LINE.loss * 4, LINE.loss))
    said = "A and B keep the loss below 1 nat on the largest part of the line, 60 %; C on the smallest, 20 %"
    assert draw("landscape", line=steep).get_suptitle() == said


def test_contours_share_their_levels_and_mark_the_weights():
    axes = panels(draw("contours"))
    assert [axis.get_title(loc="left") for axis in axes] == ["A", "B"]
    levels = [axis.collections[0].levels for axis in axes]
    assert np.array_equal(*levels)
    assert np.diff(np.log(levels[0])) == pytest.approx(np.diff(np.log(levels[0]))[0])
    assert (levels[0][0], levels[0][-1]) == (pytest.approx(0.1), pytest.approx(0.1 + 2 * 3))
    assert [axis.lines[0].get_xydata().tolist() for axis in axes] == [[[0, 0]], [[0, 0]]]
    # The thick line is where the title's level is; a plane wholly above it has none.
    assert [axis.collections[2].levels.tolist() for axis in axes] == [[_planes.LOW]] * 2
    high = points_of("abc", "plane").assign(loss=lambda points: points.loss + 2)
    assert [len(axis.collections) for axis in panels(draw("contours", plane=high))] == [2, 2]
    assert "loss [nats]" in [axis.get_ylabel() for axis in axes[0].figure.axes]


def test_a_plane_is_that_of_the_first_seed_with_a_loss():
    known = points_of("a", seeds=(0, 1)).sample(frac=1, random_state=0)
    alpha, beta, loss = _planes.plane_of(known, "a")
    assert (alpha.tolist(), beta.tolist()) == ([-1, -0.5, 0, 0.5, 1], [-1, -0.5, 0, 0.5, 1])
    assert loss[0].tolist() == pytest.approx([3.1, 2.35, 2.1, 2.35, 3.1])
    lost = known.assign(loss=known.loss.where(known.seed == 1))
    assert _planes.plane_of(lost, "a")[2].min() == pytest.approx(1.1)
    one = known.assign(loss=known.loss.mask((known.alpha == 1) & (known.beta == 1)))
    assert np.isnan(_planes.plane_of(one, "a")[2]).sum() == 1
    assert _planes.plane_of(known, "b") is None


def test_losses_far_below_the_highest_are_clipped_so_that_a_logarithm_shows_them():
    def planes(*losses):
        return [(None, None, np.array([losses])), None]

    def ends(planes):
        norm = _planes.loss_scale(planes)
        return norm.vmin, norm.vmax

    assert ends(planes(0.0, 1e-9, 100.0, np.nan, np.inf)) == pytest.approx((0.01, 100.0))
    assert ends(planes(2.0, 2.0)) == (1.0, 4.0)
    assert ends([None]) == (0.5, 2.0)


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize("lost", ["a run", "points", "a whole run", "everything"])
def test_missing_runs_and_points_are_left_out_and_said(name, lost):
    known = points_of("abc", DRAWN[name])
    if lost == "points":
        known.loc[known.alpha > 0.5, ["loss", "full_loss", "accuracy"]] = np.nan
    elif lost == "a whole run":
        known.loc[known.run == "b", ["loss", "full_loss", "accuracy"]] = np.nan
    else:
        known = known[known.run == "a"] if lost == "a run" else known[:0]
    figure = draw(name, **{DRAWN[name]: known})
    said = [text.get_text() for axis in figure.axes for text in axis.texts].count("no points")
    count = 3 if name == "landscape" else 2
    assert said == {"a run": count - 1, "points": 0, "a whole run": 1, "everything": count}[lost]


def test_contours_of_no_plane_are_refused():
    for table in (table_of(row("a", "A")), table_of(row("a", "A"), row("b", "B", planned=False), planes=["b"])):
        with one_line("T: has no run in `planes` that is made, so there is nothing to draw"):
            draw("contours", table)


@pytest.mark.parametrize("count", range(1, 13))
def test_panels_fill_lines_of_at_most_four(count):
    across = _panels.even(count, 4)
    down = -(-count // across)
    assert across <= 4
    assert down == -(-count // 4)
    assert across * down - count < down or count <= 4


def test_a_cell_is_named_with_its_column():
    table = table_of(row("a.x", "A", column="X"), row("a.y", "A", column="Y"), row(None, "B", column="Y"))
    assert _panels.drawn_rows(table) == {"a.x": "A (X)", "a.y": "A (Y)"}
