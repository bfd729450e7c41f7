"""Which runs of a table a figure shows, and a panel for each."""

from collections.abc import Collection, Mapping

import pandas as pd
from matplotlib.figure import Figure

from whysgd.report.style import plt

LEAST_WIDTH = 6.0  # inches; a heading needs as much


def drawn_rows(table: Mapping, only: Collection[str] | None = None) -> dict[str, str]:
    """Return the runs of a table that are made, or those of them that `only` names, each with its label.

    A run in two rows, at two metrics, is there once.
    """
    found = {}
    for row in table["rows"]:
        if row["planned"] and (only is None or row["run"] in only):
            label = f"{row['label']} ({row['column']})" if row["column"] else row["label"]
            found.setdefault(row["run"], label)
    return found


def even(count: int, most: int) -> int:
    """Return how many panels of a figure lie side by side: at most `most`, in lines as even as can be."""
    return -(-count // -(-count // most))


def panels(count: int, across: int, panel: tuple, margin: tuple, **options) -> tuple[Figure, list]:
    """Return a figure and its panels, line by line.

    Args:
        count: of panels.
        across: how many of them lie side by side.
        panel, margin: width and height in inches of a panel, and of all that is around them.
        options: of `plt.subplots`.
    """
    down = -(-count // across)
    size = (max(LEAST_WIDTH, panel[0] * across + margin[0]), panel[1] * down + margin[1])
    figure, axes = plt.subplots(down, across, figsize=size, squeeze=False, **options)
    for axis in axes.flat[count:]:
        axis.set_visible(False)  # A place that is kept makes all panels one size.
    for axis in axes.flat[:count]:
        axis.tick_params(labelbottom=True)
    return figure, list(axes.flat[:count])


def draw_course(axis, course: pd.DataFrame, colour: str, label: str | None = None) -> None:
    """Draw the column `mean` over the index as a line, and a band from `low` to `high`."""
    axis.plot(course.index, course["mean"], color=colour, label=label, lw=1.4)
    axis.fill_between(course.index, course.low, course.high, color=colour, alpha=0.2, lw=0)


def seeds_of(frame: pd.DataFrame) -> str:
    """Return how many seeds the runs of a frame have, as text."""
    counts = frame.groupby("run").seed.nunique()
    text = " to ".join(str(count) for count in dict.fromkeys((counts.min(), counts.max())))
    return f"n = {text} seed{'' if text == '1' else 's'}"
