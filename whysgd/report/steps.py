"""Figures over update steps: a panel for each row of a table, a line for each method."""

import textwrap

import numpy as np
import pandas as pd
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from whysgd.errors import UserError
from whysgd.report.figures import STYLE, plt

# Column of the histories, what becomes of it, name and scale of the axis.
MEASURES = {
    "accuracy": ("test_accuracy", lambda values: values, "test accuracy [%]", "linear"),
    "micro_norm": ("micro_batch_norm2", np.sqrt, "average micro-batch gradient norm", "log"),
}
POINTS = 80  # of a line, at most; more of them hide one another


def panels(table: dict) -> dict[str, dict[str, dict]]:
    """What is drawn: for each panel, by title, the runs by method with the label of their line.

    A table with columns has a panel for each row and a line for each column; one without has a single panel, without a
    title, and a line for each row. Runs that are not planned are left out, and so are panels that have none. Rows that
    are the same runs, shown at two metrics, are one panel.
    """
    found: dict[str, dict] = {}
    for row in table["rows"]:
        if row["planned"]:
            title, label = (row["row"], row["column"]) if table["columns"] else ("", row["label"])
            found.setdefault(title, {}).setdefault(row["method"], {"run": row["run"], "label": label})
    titles = {row["row"]: row["label"] for row in reversed(table["rows"])}
    return {titles.get(row, ""): lines for row, lines in found.items()}


def plot_steps(table: dict, histories: pd.DataFrame, measure: str, colours: dict[str, str], setting: str):
    """A measure over update steps: lines are means over seeds, bands reach from the lowest to the highest seed.

    Args:
        table: as `whysgd.study.papers.tables_at` has it.
        histories: the frame of `read_histories`, of its paper.
        measure: one of `MEASURES`.
        colours: of its methods, see `whysgd.report.colours`.
        setting: on what was measured, for the title.
    """
    column, transformed, name, scale = MEASURES[measure]
    drawn = panels(table)
    if not drawn:
        raise UserError(f"{table['title']}: no run of the table is made at this scale, so there is nothing to draw")
    known = histories.dropna(subset=[column])
    known = known.assign(value=transformed(known[column].astype(float)))
    steps = known[known.run.isin(line["run"] for lines in drawn.values() for line in lines.values())].step
    # Much happens in the first tenth of a run, which is a corner of a linear axis.
    logarithmic = measure == "micro_norm" and len(steps) > 0 and steps.max() >= 100 * steps.min()
    across = len(drawn) if len(drawn) <= 3 else 2
    down = -(-len(drawn) // across)
    with plt.rc_context(STYLE):
        size = (max(4.6, 3.4 * across) + 1.8, 3.2 * down + 0.6)
        figure, axes = plt.subplots(down, across, figsize=size, squeeze=False)
        for axis in axes.flat[len(drawn) :]:
            axis.remove()
        for axis, (title, lines) in zip(axes.flat, drawn.items(), strict=False):
            courses = [
                _line(axis, known[known.run == line["run"]], line["label"], colours[method], logarithmic)
                for method, line in lines.items()
            ]
            axis.set(yscale=scale, xscale="log" if logarithmic else "linear", xlabel="update steps")
            axis.set_title(title if len(drawn) > 1 else "")
            _limit(axis, pd.concat(courses), scale, logarithmic)
        for axis in axes[:, 0]:
            axis.set_ylabel(name)
        handles = {}
        for axis in figure.axes:
            handles |= {label: handle for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
        if handles:
            figure.legend(handles.values(), handles, loc="outside right center", frameon=False)
        figure.suptitle("\n".join([table["title"], *textwrap.wrap(setting, int(11 * size[0]))]), fontsize=10)
    return figure


def _line(axis, history: pd.DataFrame, label: str, colour: str, logarithmic: bool) -> pd.DataFrame:
    """Draw mean and band over seeds of one run, and return them; neighbouring lines of a long history are averaged."""
    history = history.assign(place=_places(history.step, logarithmic))
    seeds = history.groupby(["place", "seed"], as_index=False)[["step", "value"]].mean()
    course = seeds.groupby("place").agg(
        step=("step", "mean"), mean=("value", "mean"), low=("value", "min"), high=("value", "max")
    )
    if len(course):
        axis.plot(course.step, course["mean"], color=colour, label=label, lw=1.4)
        axis.fill_between(course.step, course.low, course.high, color=colour, alpha=0.18, lw=0)
    return course


def _places(steps: pd.Series, logarithmic: bool) -> np.ndarray:
    """To which point of a line each step belongs: to its own, or, if they are many, to one of `POINTS` intervals."""
    if steps.nunique() <= POINTS:
        return steps.to_numpy()
    scaled = np.log(steps) if logarithmic else steps
    edges = np.linspace(scaled.min(), scaled.max(), POINTS + 1)[1:-1]
    return np.searchsorted(edges, scaled.to_numpy())


def _limit(axis, courses: pd.DataFrame, scale: str, logarithmic: bool) -> None:
    """Leave out of sight what would press the rest together, and write plain numbers on logarithmic axes."""
    late = courses[courses.step >= courses.step.max() / 4]
    if scale == "linear" and late.high.max() > late.low.min():
        margin = 0.05 * (late.high.max() - late.low.min())
        axis.set_ylim(late.low.min() - margin, late.high.max() + margin)
    if logarithmic:
        axis.set_xlim(left=max(courses.step.min(), courses.step.max() / 1000))
    for part, on, subs in ((axis.xaxis, logarithmic, (1, 3)), (axis.yaxis, scale == "log", (1, 2, 5))):
        if on:
            part.set_major_locator(LogLocator(subs=subs))
            part.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            part.set_minor_formatter(NullFormatter())
