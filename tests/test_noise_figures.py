"""Figures of grids of networks, and of the gradient noise along runs."""

import math

import numpy as np
import pandas as pd
import pytest
from conftest import one_line
from drawing import GRID, draw, frames_of, grid_table, row, spoken, table_of, texts_of
from scipy import stats

from whysgd.report.figures.noise_norms import gaussian_width
from whysgd.report.style import DARK, ON_DARK, ON_LIGHT

TWO = table_of(row("a", "A"), row("b", "B"))


def test_the_figure_of_widths_has_a_line_for_each_depth_and_the_gaussian():
    figure = draw("width", GRID)
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["cross entropy", "linear hinge"]
    axis = figure.axes[0]
    assert (axis.get_xlabel(), axis.get_xscale(), axis.get_ylabel()) == ("width", "log", "tail index of gradient noise")
    lines = {line.get_label(): line for line in axis.lines if line.get_label() in "248"}
    assert list(lines) == ["2", "4", "8"]
    assert lines["4"].get_xdata().tolist() == [4, 16, 64, 256]
    assert lines["4"].get_ydata() == pytest.approx(1.6 - 0.05 * np.log2([4, 16, 64, 256]) + 0.04 + 0.001)
    dots = [line for line in axis.lines if line.get_marker() == "o"]
    assert sum(len(line.get_xdata()) for line in dots) == 3 * 4 * 3
    assert any(list(line.get_ydata()) == [2.0, 2.0] for line in axis.lines)
    assert texts_of(figure.legends[0].get_texts()) == ["2", "4", "8"]
    said = "Tail index of gradient noise falls with width in all 6 lines (Spearman's ρ, Holm p < 0.05)"
    assert figure.get_suptitle() == said


def test_each_line_of_the_grid_is_judged_for_itself():
    known = frames_of(GRID)["measures"]
    hinge, flat = known.run.str.startswith("linear"), known.run.str.startswith("cross_entropy-2")
    known = known.assign(value=known.value.mask(hinge, 3 - known.value).mask(flat, 1.0))
    said = "Tail index of gradient noise rises with width in 3 and falls in 2 of 6 lines (Spearman's ρ, Holm p < 0.05)"
    assert draw("width", GRID, measures=known).get_suptitle() == said
    figure = draw("width", GRID, measures=known.assign(value=1.0))
    assert "shows no clear trend with width in any of 6 lines" in spoken(figure)
    assert "cross entropy, 2 0.00; " in figure.get_label()


def test_the_map_has_a_number_in_each_cell():
    whole = frames_of(GRID)["measures"]
    figure = draw("heatmap", GRID, measures=whole[whole.run != "linear_hinge-8-4"])
    first, second, bar = figure.axes
    numbers = [texts_of(axis.texts) for axis in (first, second)]
    assert numbers[0][:5] == ["1.52", "1.42", "1.32", "1.22", "1.54"]
    # On a dark screen, too, cells keep their colours, and so do the numbers on them.
    assert {text.get_color() for axis in (first, second) for text in axis.texts} == {ON_LIGHT, ON_DARK}
    assert not {ON_LIGHT, ON_DARK} & {*DARK}
    # A cell without a number stays grey.
    assert (len(numbers[0]), len(numbers[1])) == (12, 11)
    assert texts_of(first.get_yticklabels()) == ["2", "4", "8"]
    assert (first.get_ylabel(), first.get_xlabel()) == ("depth", "width")
    assert bar.get_ylabel() == "tail index of\ngradient noise"
    # 1.6 − 0.05·log₂(width) + 0.01·depth + 0.001 is lowest at width 256 and depth 2.
    low, high = "1.22 (loss cross entropy, depth 2, width 256)", "1.58 (loss cross entropy, depth 8, width 4)"
    assert spoken(figure) == f"Tail index of gradient noise ranges from {low} to {high}"


def test_a_grid_of_names_is_drawn_with_their_names_and_its_seeds_are_counted():
    rows = {"data": ["cifar10", "cifar100"], "loss": ["cross_entropy", "linear_hinge"]}
    table = grid_table(rows, {"channels": [2, 4]})
    known = frames_of(table, 2)["measures"]
    figure = draw("width", table, measures=known[(known.seed == 0) | (known.run == "cifar10-cross_entropy-2")])
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["CIFAR-10", "CIFAR-100"]
    assert texts_of(figure.legends[0].get_texts()) == ["cross entropy", "linear hinge"]
    assert figure.texts[-1].get_text().endswith("n = 1 to 2 seeds")
    with one_line("nothing was measured of the table's grid"):
        draw("width", table, measures=known[:0])


def test_the_course_of_the_noise_has_a_colour_for_each_run_and_a_dot_where_it_ends():
    figure = draw("noise_course", TWO, seeds=2)
    tail, loss, accuracy = figure.axes
    labels = ["tail index of gradient noise", "training loss (each run's own)", "accuracy [%]"]
    assert [axis.get_ylabel() for axis in figure.axes] == labels
    assert tail.get_xscale() == "symlog"
    means = next(line for line in tail.lines if len(line.get_xdata()))
    # Seed 0 ends after 200 steps, seed 1 after 300: from there on it is alone.
    assert means.get_xdata().tolist() == [0, 1, 5, 20, 80, 300]
    assert means.get_ydata() == pytest.approx([1.55, 1.549, 1.545, 1.53, 1.47, 1.3])
    # A seed without a tail index at a step leaves no median there, either.
    noise = frames_of(TWO, seeds=2)["noise"]
    noise.loc[(noise.seed == 1) & (noise.step == 20), "tail_index"] = np.nan
    lines = draw("noise_course", TWO, seeds=2, noise=noise).axes[0].lines
    assert next(line for line in lines if len(line.get_xdata())).get_xdata().tolist() == [0, 1, 5, 80, 300]
    ends = [(line.get_xdata()[0], round(line.get_ydata()[0], 6)) for line in tail.lines if line.get_marker() == "o"]
    assert ends == [(200, 1.3), (300, 1.3), (650, 0.85), (650, 0.95)]
    full = [[line for line in axis.lines if len(line.get_xdata()) > 1] for axis in (loss, accuracy)]
    assert [len(lines) for lines in full] == [4, 8]
    names = texts_of(figure.legends[0].get_texts())
    assert names == ["A", "B", "accuracy on the training images", "on the test images"]


def test_noise_norms_are_over_normal_quantiles_in_units_of_their_root_mean_square():
    figure = draw("noise_norms", TWO)
    norms = 0.5 + np.arange(32) / 32
    rms = np.sqrt(np.mean(norms**2))
    for axis, run in zip(figure.axes, "ab", strict=True):
        end = next(line for line in axis.lines if line.get_color() == TWO["colours"][run])
        assert end.get_ydata() == pytest.approx(norms / rms)
        assert stats.norm.cdf(end.get_xdata()) == pytest.approx((np.arange(32) + 0.5) / 32)
        gaussian = next(line for line in axis.lines if line.get_linestyle() == "--")
        assert np.diff(gaussian.get_ydata()) / np.diff(gaussian.get_xdata()) == pytest.approx(gaussian_width(20_000))
    times = np.std(norms) / rms / gaussian_width(20_000)
    assert figure.get_suptitle() == f"At the end noise norms spread {times:.0f} times as wide as Gaussian noise's"
    # Logs have those of the test images, too; records do not.
    train = frames_of(TWO)["noise_norms"].assign(split="train")
    both = pd.concat([train, train.assign(split="test", noise_norm=9 * train.noise_norm**2)])
    assert draw("noise_norms", TWO, noise_norms=both).get_label() == figure.get_label()


def test_layers_have_a_line_each_in_units_of_their_start():
    figure = draw("layer_norms", TWO)
    assert [len(axis.lines) for axis in figure.axes] == [3, 2, 3, 2]
    weights, fewer, gradients, _ = figure.axes
    assert [list(line.get_ydata()) for line in weights.lines] == [[1.0] * 3] * 3
    # The norm starts at 0 in the first layer, so that it has no ratio.
    expected = [[], pytest.approx([1.0, 1.05, 1.45]), pytest.approx([1.0, 31 / 30, 1.3])]
    assert [list(line.get_ydata()) for line in gradients.lines] == expected
    # A layer has the same colour in all panels.
    assert [line.get_color() for line in fewer.lines] == [line.get_color() for line in weights.lines[:2]]
    assert texts_of(figure.legends[0].get_texts()) == ["1", "2", "3"]
    # A seed that ends earlier adds no step of its own to the medians.
    layers = frames_of(TWO)["layers"]
    early = layers.assign(step=layers.step - ((layers.seed == 1) & (layers.step == layers.step.max())))
    for axis, before in zip(draw("layer_norms", TWO, layers=early).axes, figure.axes, strict=True):
        assert [list(line.get_xdata()) for line in axis.lines] == [list(line.get_xdata()) for line in before.lines]


NEEDS = {"noise_course": "noise", "noise_norms": "noise_norms", "layer_norms": "layers"}


@pytest.mark.parametrize(("figure", "need"), NEEDS.items())
def test_runs_without_noise_are_left_out(figure, need):
    known = frames_of(TWO)[need]
    drawn = draw(figure, TWO, **{need: known[known.run == "b"]})
    names = [title[:1] for axis in drawn.axes if (title := axis.get_title(loc="left"))]
    assert (names or texts_of(drawn.legends[0].get_texts())[:1]) == ["B"]
    with one_line("T: the noise of no run was measured"):
        draw(figure, TWO, **{need: known[:0]})


def test_noise_norms_of_full_batches_alone_are_refused():
    known = frames_of(TWO)["noise_norms"].assign(noise_norm=0.0)
    with one_line("T: the gradients of no run have noise, so there is nothing to draw"):
        draw("noise_norms", TWO, noise_norms=known)


@pytest.mark.parametrize("parameters", [200, 2000])
def test_the_gaussian_width_is_that_of_gaussian_norms(parameters):
    entries = np.random.default_rng(0).standard_normal((4000, parameters))
    ratios = np.linalg.norm(entries, axis=1) / math.sqrt(parameters)
    assert ratios.std() == pytest.approx(gaussian_width(parameters), rel=0.05)
