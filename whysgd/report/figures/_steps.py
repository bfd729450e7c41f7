"""A quantity over update steps: a panel for each row of a table, a line for each method."""

import numpy as np
import pandas as pd

from whysgd.report.figures._panels import draw_course, panels
from whysgd.report.style import add_heading, add_legend, log_ticks

MARGIN = (1.8, 0.6)  # inches
POINTS = 80  # of a line, at most; more of them hide one another


def panel_lines(table: dict) -> dict[str, dict[str, dict]]:
    """Return what is drawn: for each panel, by title, the runs by method with the label of their line.

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


def draw_steps(table: dict, histories: pd.DataFrame, name: str, setting: str, panel: tuple, log: bool = False):
    """Draw the column `value` of histories: lines are means over seeds, bands reach from the lowest to the highest.

    Args:
        table, setting: of the figure.
        histories: of the table's runs, with a column `value`; lines without a value are left out.
        name: of the quantity.
        panel: width and height in inches.
        log: draw it on a logarithmic axis, and so the steps of long runs.
    """
    drawn = panel_lines(table)
    known = histories.dropna(subset="value")
    # Much happens in the first tenth of a run, which is a corner of a linear axis.
    log_steps = log and len(known) > 0 and known.step.max() >= 100 * known.step.min()
    across = len(drawn) if len(drawn) <= 3 else 2
    figure, axes = panels(len(drawn), across, panel, MARGIN)
    for axis, (title, lines) in zip(axes, drawn.items(), strict=True):
        courses = [
            _line(axis, known[known.run == line["run"]], line["label"], table["colours"][method], log_steps)
            for method, line in lines.items()
        ]
        axis.set(yscale="log" if log else "linear", xscale="log" if log_steps else "linear", xlabel="update steps")
        axis.set_title(title if len(drawn) > 1 else "")
        _limit(axis, pd.concat(courses))
    for axis in axes[::across]:
        axis.set_ylabel(name)
    add_legend(figure, "right center")
    add_heading(figure, table["title"], setting)
    return figure


def _line(axis, history: pd.DataFrame, label: str, colour: str, log_steps: bool) -> pd.DataFrame:
    """Draw mean and band over seeds of one run, and return them; neighbouring lines of a long history are averaged."""
    history = history.assign(place=_places(history.step, log_steps))
    seeds = history.groupby(["place", "seed"], as_index=False)[["step", "value"]].mean()
    course = seeds.groupby("place").agg(
        step=("step", "mean"), mean=("value", "mean"), low=("value", "min"), high=("value", "max")
    )
    course = course.set_index("step")
    if len(course):
        draw_course(axis, course, colour, label)
    return course


def _places(steps: pd.Series, log_steps: bool) -> np.ndarray:
    """Return to which point of a line each step belongs: to its own, or, of many, to one of `POINTS` intervals."""
    if steps.nunique() <= POINTS:
        return steps.to_numpy()
    scaled = np.log(steps) if log_steps else steps
    edges = np.linspace(scaled.min(), scaled.max(), POINTS + 1)[1:-1]
    return np.searchsorted(edges, scaled.to_numpy())


def _limit(axis, courses: pd.DataFrame) -> None:
    """Leave out of sight what would press the rest together, and write plain numbers on logarithmic axes."""
    if courses.empty:
        return
    late = courses[courses.index >= courses.index.max() / 4]
    if axis.get_yscale() == "log":
        log_ticks(axis.yaxis, *axis.get_ylim())
    elif late.high.max() > late.low.min():
        margin = 0.05 * (late.high.max() - late.low.min())
        axis.set_ylim(late.low.min() - margin, late.high.max() + margin)
    if axis.get_xscale() == "log":
        axis.set_xlim(left=max(courses.index.min(), courses.index.max() / 1000))
        log_ticks(axis.xaxis, *axis.get_xlim())
