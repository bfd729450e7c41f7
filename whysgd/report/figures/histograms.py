"""How sharpness and accuracy are distributed over the seeds of each row of a table."""

import textwrap

import numpy as np
import pandas as pd

from whysgd.report.colours import PALETTE
from whysgd.report.figures._panels import drawn_rows
from whysgd.report.measures import rounded, titled, wide
from whysgd.report.style import add_heading, log_ticks, plt, say

NEEDS = ("measures",)
CAPTION = (
    "Keskar sharpness and test accuracy over the seeds of each row: the height of a bar is its share of the row's "
    "seeds, a stroke below is one seed, and the black line with its number is the median."
)
WIDTH, ROW_HEIGHT, MARGIN = 9.5, 0.72, 1.7  # inches
QUANTITIES = {"keskar_sharpness": PALETTE[5], "test_accuracy": PALETTE[4]}
TALLEST = 0.62  # bar, in rows


def histograms(table, frames, setting):
    """Draw a histogram for each row and quantity; those of a quantity share their bins and their heights."""
    rows, lines = drawn_rows(table), wide(frames["measures"], frames["runs"])
    size = (WIDTH, ROW_HEIGHT * len(rows) + MARGIN)
    figure, axes = plt.subplots(1, len(QUANTITIES), figsize=size, sharey=True)
    for axis, (quantity, colour) in zip(axes, QUANTITIES.items(), strict=True):
        _ridges(axis, [lines[lines.run == run][quantity].dropna().to_numpy(dtype=float) for run in rows], colour)
        axis.set_xlabel(titled(quantity))
    axes[0].set_yticks(range(len(rows)), [_named(label, lines[lines.run == run]) for run, label in rows.items()])
    axes[0].set_ylim(len(rows) - 0.7, -0.78)
    add_heading(figure, table["title"], setting)
    return figure


def _ridges(axis, values: list[np.ndarray], colour: str) -> None:
    """Draw a histogram above each row's line, a stroke for each seed below it, and the median through it."""
    everything = np.concatenate(values)
    axis.grid(axis="y", visible=False)
    if not len(everything):
        say(axis, "not measured")
        return
    low, high = everything.min(), everything.max()
    log = low > 0 and high > 30 * low
    if high == low:
        low, high = low - 0.5, high + 0.5
    bins = round(2.5 * max(map(len, values)) ** 0.5)
    edges = (np.geomspace if log else np.linspace)(low, high, min(max(10, bins), 24) + 1)
    shares = [np.histogram(found, edges)[0] / max(1, len(found)) for found in values]
    tallest = max(share.max() for share in shares)
    if log:
        axis.set_xscale("log")
        log_ticks(axis.xaxis, low, high)
    for place, (found, share) in enumerate(zip(values, shares, strict=True)):
        axis.axhline(place, color="#999999", lw=0.6)
        if not len(found):
            continue
        axis.bar(
            edges[:-1], -TALLEST * share / tallest, np.diff(edges), bottom=place, align="edge", color=colour,
            alpha=0.55, lw=0,
        )  # fmt: skip
        axis.vlines(found, place + 0.03, place + 0.15, color=colour, lw=0.9, alpha=0.8)
        median = float(np.median(found))
        axis.vlines(median, place - TALLEST, place, color="black", lw=1.4)
        to_the_left = np.searchsorted(edges, median) > 0.8 * len(edges)
        axis.annotate(
            rounded(median), (median, place - TALLEST), xytext=(-3 if to_the_left else 3, -1),
            textcoords="offset points", ha="right" if to_the_left else "left", va="top", fontsize=8,
        )  # fmt: skip


def _named(label: str, lines: pd.DataFrame) -> str:
    """Return a row's label, with its seeds."""
    diverged = int((lines.status == "diverged").sum())
    lost = f", {diverged} diverged" if diverged else ""
    return f"{textwrap.fill(label, 28)}\n" + (f"n = {len(lines) - diverged}{lost}" if len(lines) else "not run")
