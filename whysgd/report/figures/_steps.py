"""A quantity over training as small multiples: a panel for each run, in colour over all others in grey."""

import textwrap

import numpy as np
import pandas as pd

from whysgd.report.baselines import baseline_of
from whysgd.report.figures._panels import draw_course, even, over_seeds
from whysgd.report.style import FAINT, QUIET, SMALL, TEXT, WIDE, log_ticks, number, plt

MOST, HEIGHT = 8, 1.9  # panels side by side; inches of a line of them
FEW = 5  # seeds, each with a line, since quartiles would lie where no seed is
POINTS = 80  # of a line, at most; more of them hide one another
AXES = {"step": "update steps", "epoch": "passes over the training set"}


def grid_of(table: dict) -> dict[str, dict[str, str]]:
    """Return the runs that are compared with one another, by the name of their panel, in lines of panels.

    In a table whose columns span a gap they are a row's columns; else they are the rows of each column. A run at two
    metrics is there once.
    """
    titles = {row["row"]: row["label"] for row in reversed(table["rows"])}
    found: dict[str, dict] = {}
    for row in table["rows"]:
        if row["planned"]:
            line, name = (titles[row["row"]], row["column"]) if table["gap"] else (row["column"] or "", row["label"])
            mine = found.setdefault(line, {})
            if row["run"] not in mine.values():
                mine[name] = row["run"]
    return found


def to_baseline(table: dict, histories: pd.DataFrame, ratio: bool = False) -> pd.DataFrame:
    """Return histories with `value` as its difference or ratio to that of the run's baseline at its seed and step."""
    ends = {row["run"]: end["run"] for row in table["rows"] if row["planned"] and (end := baseline_of(table, row))}
    known = histories.dropna(subset="value")
    lines = known.assign(end=known.run.map(ends)).dropna(subset="end")
    other = known[["run", "seed", "step", "value"]].rename(columns={"run": "end", "value": "base"})
    lines = lines[lines.run != lines.end].merge(other, on=["end", "seed", "step"])
    return lines.assign(value=lines.value / lines.base if ratio else lines.value - lines.base)


def draw_multiples(table, frames, lines: pd.DataFrame, name: str, level: float | None = None, log: bool = False):
    """Return a figure of the column `value`: medians over seeds, and in a run's own panel the seeds or quartiles.

    Where runs differ in steps for a pass, each line of panels is there twice, over steps and over passes.

    Args:
        table, frames: of the figure.
        lines: of histories, with a `value` of the quantity that is called `name`.
        level: of the baseline, drawn as a line; the axis then fits the last three quarters of training.
        log: make the vertical axis logarithmic.
    """
    grid = {line: {name: run for name, run in runs.items() if (lines.run == run).any()}
            for line, runs in grid_of(table).items()}  # fmt: skip
    grid = {line: runs for line, runs in grid.items() if runs} or {"": {"": None}}
    names = list(dict.fromkeys(name for runs in grid.values() for name in runs))
    passes = (lines.groupby("run").step.max() / lines.groupby("run").epoch.max()).round(2)
    kinds = list(AXES) if passes.nunique() > 1 and level is None else ["step"]
    across = even(len(names), MOST)
    places = [
        (line, kind, names[i : i + across]) for line in grid for kind in kinds for i in range(0, len(names), across)
    ]
    size = (WIDE, HEIGHT * len(places) + 0.1)
    figure, axes = plt.subplots(len(places), across, figsize=size, sharey="row", squeeze=False)
    for panels, (line, kind, some) in zip(axes, places, strict=True):
        mine = lines[lines.run.isin(grid[line].values())]
        courses = {run: _course(mine[mine.run == run], kind) for run in grid[line].values() if run}
        for axis, title in zip(panels, [*some, *[None] * (across - len(some))], strict=True):
            own = grid[line].get(title)
            axis.set_visible(own is not None)
            for run, course in courses.items():
                if run != own:
                    median = course["median"].dropna()
                    axis.plot(median.index, median, color=FAINT, lw=0.9, zorder=2)
            if own:
                draw_course(axis, courses[own], table["colours"][own])
                axis.set_title(textwrap.fill(title, 120 // across + 4), loc="left")
            if level is not None:
                axis.axhline(level, color=QUIET, lw=0.8, zorder=1)
            axis.set_yscale("log" if log else "linear")
            _steps_of(axis, courses)
        _limit(panels[0], courses, level, log)
        seen = [axis for axis in panels if axis.get_visible()] or panels
        seen[(len(seen) - 1) // 2].set_xlabel(AXES[kind])
        panels[0].set_ylabel(
            _ran(line if len(grid_of(table)) > 1 else "", frames["runs"], grid[line]), fontsize=SMALL, color=QUIET
        )
    figure.supylabel(textwrap.fill(name, int(10 * size[1])), fontsize=TEXT)
    return figure


def _ran(line: str, runs: pd.DataFrame, shown: dict) -> str:
    """Return what ran in a line of panels, and what it stands for in the table."""
    own = runs[runs.run.isin(shown.values())]
    if not line or own.empty or (own.scale == "paper").all():
        return line
    return f"{', '.join(own.model.unique())},\n{', '.join(own.dataset.unique())}\nfor {line}"


def _course(history: pd.DataFrame, along: str) -> pd.DataFrame:
    """Return median and quartiles of a run, and each of few seeds; neighbours in a long history are averaged."""
    if history[along].nunique() > POINTS:
        last = pd.cut(history[along], np.linspace(0, history[along].max(), POINTS + 1), labels=False)
        history = history.assign(**{along: history.groupby(last)[along].transform("mean").round(1)})
    course = over_seeds(history, along, "value")
    seeds = history.pivot_table("value", along, "seed")
    return course.join(seeds, how="outer") if 1 < len(seeds.columns) <= FEW else course


def _steps_of(axis, courses: dict) -> None:
    """Let the axis begin at the first measured step, and be logarithmic where much happens in a corner of it."""
    steps = np.concatenate([course.index for course in courses.values()] or [[]])
    if len(steps) and steps.max() > steps.min():
        if np.median(steps) < steps.max() / 10:
            axis.set_xscale("log")
            log_ticks(axis.xaxis, steps.min(), 100 * steps.max())  # fewer: the panels are small
        else:
            axis.locator_params(axis="x", nbins=4)
            axis.xaxis.set_major_formatter(number)
        axis.set_xlim(steps.min(), steps.max())


def _limit(axis, courses: dict, level: float | None, log: bool) -> None:
    """Leave out of sight what would press the rest together, and write plain numbers on a logarithmic axis."""
    low, high = axis.get_ylim()
    if log and high < 3 * low:
        axis.set_yscale("linear")
    elif log:
        log_ticks(axis.yaxis, low, high)
    elif level is not None and courses:
        late = pd.concat([course[course.index >= course.index.max() / 4] for course in courses.values()])
        low, high = min(level, late.min(axis=None)), max(level, late.max(axis=None))
        margin = 0.08 * (high - low) or 1.0
        axis.set_ylim(low - margin, high + margin)
