"""Figures over update steps."""

import numpy as np
import pandas as pd
import pytest
from frames import row

from whysgd.errors import UserError
from whysgd.report import figures, steps

COLOURS = {"sb": "#000000", "lb": "#999999", "gn": "#E69F00"}


def cell(name, label, method, **other):
    run = None if other.get("planned") is False and "run" not in other else f"{name}.{method}"
    return {**row(run, label, column=method.upper()), "row": name, "method": method, **other}


TABLE = {
    "title": "T", "columns": {"sb": {}, "lb": {}, "gn": {}},
    "rows": [
        cell("a", "A", "sb"), cell("a", "A", "lb"), cell("a", "A", "gn"),
        cell("b", "B", "sb"), cell("b", "B", "lb", run="b.lb", planned=False), cell("b", "B", "gn", planned=False),
        cell("c", "C", "sb", run="c.sb", planned=False),
        {**cell("a", "A again", "sb"), "metric": "best_test_accuracy"},
    ],
}  # fmt: skip


def histories(length=5, seeds=(0, 1, 2)):
    """A few accuracies among many norms."""
    parts = []
    for run, level in (("a.sb", 9.0), ("a.lb", 4.0), ("a.gn", 1.0), ("b.sb", 4.0), ("b.lb", 4.0)):
        for seed in seeds:
            step = np.arange(1, length + 1)
            accuracy = np.where(step % 2 == 1, 10.0 * level + seed, np.nan)
            parts.append(pd.DataFrame({"run": run, "seed": seed, "step": step, "test_accuracy": accuracy,
                                       "micro_batch_norm2": level * (1 + seed) ** 2}))  # fmt: skip
    return pd.concat(parts)


def test_panels_are_rows_and_lines_are_methods_that_are_run():
    drawn = steps.panels(TABLE)
    assert {title: list(lines) for title, lines in drawn.items()} == {"A": ["sb", "lb", "gn"], "B": ["sb"]}
    flat = {**TABLE, "columns": None, "rows": [row("x", "X"), {**row("y", "Y"), "planned": False}]}
    assert steps.panels(flat) == {"": {"x": {"run": "x", "label": "X"}}}


def test_lines_are_means_over_seeds_with_a_band_and_colours_of_methods(tmp_path):
    figure = steps.plot_steps(TABLE, histories(), "accuracy", COLOURS, "here")
    first, second = figure.axes
    assert [axis.get_title() for axis in figure.axes] == ["A", "B"]
    lines = {line.get_label(): line for line in first.lines}
    assert list(lines) == ["SB", "LB", "GN"]
    assert lines["SB"].get_xdata().tolist() == [1, 3, 5]
    assert lines["SB"].get_ydata().tolist() == [91.0, 91.0, 91.0]
    assert [line.get_color() for line in first.lines] == list(COLOURS.values())
    band = first.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (90.0, 92.0)
    assert [line.get_color() for line in second.lines] == ["#000000"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["SB", "LB", "GN"]
    for name in ("first", "second"):
        figures.save_figure(
            steps.plot_steps(TABLE, histories(), "accuracy", COLOURS, "here"), [tmp_path / f"{name}.svg"]
        )
    assert (tmp_path / "first.svg").read_text() == (tmp_path / "second.svg").read_text()


def test_norms_are_roots_on_a_logarithmic_axis_and_long_histories_are_thinned():
    figure = steps.plot_steps(TABLE, histories(), "micro_norm", COLOURS, "here")
    axis = figure.axes[0]
    assert (axis.get_yscale(), axis.get_xscale()) == ("log", "linear")
    # Roots first, then the mean: 3·(1 + 2 + 3)/3.
    assert axis.lines[0].get_ydata().tolist() == [6.0] * 5
    long = steps.plot_steps(TABLE, histories(2000, (0,)), "micro_norm", COLOURS, "here").axes[0]
    assert long.get_xscale() == "log"
    assert len(long.lines[0].get_xdata()) <= steps.POINTS
    assert long.lines[0].get_ydata() == pytest.approx(3.0)


@pytest.mark.parametrize("measure", steps.MEASURES)
def test_a_run_that_measures_nothing_has_no_line(measure):
    empty = histories().assign(test_accuracy=np.nan, micro_batch_norm2=np.nan)
    figure = steps.plot_steps(TABLE, empty, measure, COLOURS, "here")
    assert all(not axis.lines for axis in figure.axes)
    figures.plt.close(figure)
    one = pd.concat([empty[empty.run != "a.gn"], histories()[histories().run == "a.gn"]])
    figure = steps.plot_steps(TABLE, one, measure, COLOURS, "here")
    assert [len(axis.lines) for axis in figure.axes] == [1, 0]


def test_a_table_of_which_nothing_is_run_is_named():
    rows = [{**line, "planned": False} for line in TABLE["rows"]]
    with pytest.raises(UserError, match="T: no run of the table"):
        steps.plot_steps({**TABLE, "rows": rows}, histories(), "accuracy", COLOURS, "here")


def test_other_figures_cope_with_lines_without_an_accuracy_and_cells_without_a_run():
    lines = histories().assign(epoch=lambda h: h.step, step_loss=1.0, gradient_norm=1.0)
    axes = figures.plot_curves(TABLE, lines, "here").axes
    assert [axis.get_ylabel() for axis in axes] == [f"test accuracy [%], {name}" for name in ("SB", "LB", "GN")]
    shown = [line for line in axes[2].lines if len(line.get_xdata())]
    assert shown[0].get_xdata().tolist() == [1, 3, 5]
    table = {**TABLE, "setting": "S", "rows": TABLE["rows"][:6]}
    numbers = pd.DataFrame({"published_mean": [1.0] * 6, "published_std": [None] * 6, "measured_mean": [2.0] * 6})
    runs = pd.DataFrame({"run": ["a.sb"], "test_accuracy": [2.0]})
    labels = figures.plot_comparison(table, numbers, runs, "here").axes[0].get_yticklabels()
    assert [label.get_text() for label in labels] == ["A (SB)", "A (LB)", "A (GN)", "B (SB)", "B (LB)"]
