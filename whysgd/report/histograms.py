"""How sharpness and accuracy are distributed over the seeds of each row of a table."""

import textwrap

import numpy as np
import pandas as pd
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from whysgd.report.colours import PALETTE
from whysgd.report.figures import STYLE, plt
from whysgd.report.landscapes import drawn_rows
from whysgd.report.measures import rounded, titled, wide

QUANTITIES = {"keskar_sharpness": PALETTE[5], "test_accuracy": PALETTE[4]}
HEIGHT = 0.62  # of the tallest bar, in rows


def plot_histograms(table: dict, measures: pd.DataFrame, runs: pd.DataFrame, setting: str):
    """Keskar sharpness and test accuracy over seeds: a histogram for each row of a table, with its median.

    Every seed that finished is a short stroke below the histogram. The histograms of a panel share their bins and their
    heights, which are shares of a row's seeds.

    Args:
        table: as `whysgd.study.papers.tables_at` has it.
        measures, runs: the tidy frames of its paper.
        setting: on what was measured, for the title.
    """
    rows = drawn_rows(table)
    lines = wide(measures, runs)
    lines = lines[lines.run.isin(rows)]
    with plt.rc_context(STYLE):
        size = (9.5, 0.72 * len(rows) + 1.7)
        figure, axes = plt.subplots(1, len(QUANTITIES), figsize=size, sharey=True)
        for axis, (quantity, colour) in zip(axes, QUANTITIES.items(), strict=True):
            values = {run: lines[lines.run == run][quantity].dropna().to_numpy(dtype=float) for run in rows}
            _ridges(axis, values, colour)
            axis.set_xlabel(titled(quantity))
        axes[0].set_yticks(range(len(rows)), [_named(label, lines[lines.run == run]) for run, label in rows.items()])
        axes[0].set_ylim(len(rows) - 0.7, -0.78)
        figure.suptitle("\n".join([table["title"], *textwrap.wrap(setting, 110)]), fontsize=10)
    return figure


def _ridges(axis, values: dict[str, np.ndarray], colour: str) -> None:
    """A histogram above each row's line, a stroke for each seed below it, and the median through it."""
    everything = np.concatenate(list(values.values()))
    axis.grid(axis="y", visible=False)
    if not len(everything):
        axis.text(0.5, 0.5, "not measured", transform=axis.transAxes, ha="center", color="#555555")
        return
    low, high = everything.min(), everything.max()
    logarithmic = low > 0 and high > 30 * low
    if high == low:
        low, high = low - 0.5, high + 0.5
    bins = round(2.5 * max(map(len, values.values())) ** 0.5)
    edges = (np.geomspace if logarithmic else np.linspace)(low, high, min(max(10, bins), 24) + 1)
    shares = [np.histogram(found, edges)[0] / max(1, len(found)) for found in values.values()]
    tallest = max(share.max() for share in shares)
    axis.set_xscale("log" if logarithmic else "linear")
    for place, (found, share) in enumerate(zip(values.values(), shares, strict=True)):
        axis.axhline(place, color="#999999", lw=0.6)
        if not len(found):
            continue
        axis.bar(
            edges[:-1], -HEIGHT * share / tallest, np.diff(edges), bottom=place, align="edge", color=colour, alpha=0.55,
            lw=0,
        )  # fmt: skip
        axis.vlines(found, place + 0.03, place + 0.15, color=colour, lw=0.9, alpha=0.8)
        median = float(np.median(found))
        axis.vlines(median, place - HEIGHT, place, color="black", lw=1.4)
        on_the_left = _share(median, low, high, logarithmic) > 0.8
        axis.annotate(
            rounded(median), (median, place - HEIGHT), xytext=(-3 if on_the_left else 3, -1),
            textcoords="offset points", ha="right" if on_the_left else "left", va="top", fontsize=8,
        )  # fmt: skip
    if logarithmic:
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.xaxis.set_minor_formatter(NullFormatter())


def _share(value: float, low: float, high: float, logarithmic: bool) -> float:
    """Where on the axis a value is, from 0 to 1."""
    value, low, high = np.log([value, low, high]) if logarithmic else (value, low, high)
    return (value - low) / (high - low)


def _named(label: str, lines: pd.DataFrame) -> str:
    """A row's label, with its seeds."""
    diverged = int((lines.status == "diverged").sum())
    lost = f", {diverged} diverged" if diverged else ""
    wrapped = "\n".join(textwrap.wrap(label, 28))
    return f"{wrapped}\nn = {len(lines) - diverged}{lost}" if len(lines) else f"{wrapped}\nnot run"
