"""Which runs of a table a figure shows, and a panel for each."""

from collections.abc import Collection, Mapping

import pandas as pd
from matplotlib.figure import Figure

from whysgd.report.baselines import row_name
from whysgd.report.style import NARROW, plt


def made_rows(table: dict) -> dict[str, dict]:
    """Return the first row of each run that is made."""
    made: dict[str, dict] = {}
    for row in table["rows"]:
        if row["planned"]:
            made.setdefault(row["run"], row)
    return made


def drawn_rows(table: Mapping, only: Collection[str] | None = None) -> dict[str, str]:
    """Return the runs of a table that are made, or those of them that `only` names, once each, with their labels."""
    return {run: row_name(row) for run, row in made_rows(table).items() if only is None or run in only}


def even(count: int, most: int) -> int:
    """Return how many panels of a figure lie side by side: at most `most`, in lines as even as can be."""
    return -(-count // -(-count // most))


def panels(count: int, across: int, height: float, width: float = NARROW, **options) -> tuple[Figure, list]:
    """Return a figure and its panels, line by line; height in inches is that of a line, width that of the figure."""
    down = -(-count // across)
    figure, axes = plt.subplots(down, across, figsize=(width, height * down), squeeze=False, **options)
    for axis in axes.flat[count:]:
        axis.set_visible(False)  # A place that is kept makes all panels one size.
    for axis in axes.flat[:count]:
        axis.tick_params(labelbottom=True)
    return figure, list(axes.flat[:count])


def shared(frame: pd.DataFrame, along: str) -> pd.DataFrame:
    """Return a run's lines at the values of `along` that each seed has until it ends; a median leaps at others."""
    ends, seeds = frame.groupby("seed")[along].max(), frame.groupby(along).seed.nunique()
    running = pd.Series([(ends >= place).sum() for place in seeds.index], seeds.index)
    return frame[frame[along].isin(seeds.index[seeds == running])]


def over_seeds(frame: pd.DataFrame, along: str, value: str) -> pd.DataFrame:
    """Return median and quartiles of a run's column along another, over the seeds that have not ended."""
    seeds = shared(frame.dropna(subset=value), along).groupby([along, "seed"])[value].mean().groupby(level=0)
    shares = [0.25, 0.5, 0.75]
    return seeds.quantile(shares).unstack().reindex(columns=shares).set_axis(["low", "median", "high"], axis=1)


def draw_course(axis, course: pd.DataFrame, colour, label: str | None = None, lw: float = 1.6) -> None:
    """Draw the column `median` over the index as a line, and the others thinly, or a band from `low` to `high`."""
    median, seeds = course["median"].dropna(), course.drop(columns=["low", "median", "high"])
    axis.plot(median.index, median, color=colour, label=label, lw=lw, zorder=3)
    for seed in seeds:
        line = course[seed].dropna()  # Seeds may end at different steps.
        axis.plot(line.index, line, color=colour, lw=0.6, alpha=0.6, zorder=2.5)
    if seeds.empty:
        axis.fill_between(course.index, course.low, course.high, color=colour, alpha=0.25, lw=0, zorder=2.5)
