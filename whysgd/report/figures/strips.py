"""Sharpness and accuracy of every seed, a line for each row of a table, and their trend along the rows."""

import pandas as pd

from whysgd.report.figures._panels import drawn_rows
from whysgd.report.measures import rounded, titled, wide
from whysgd.report.statistics import SIGNIFICANT, rank_correlation
from whysgd.report.style import NARROW, SMALL, log_ticks, plt, say, signed

NEEDS = ("measures",)
CAPTION = (
    "Keskar sharpness and test accuracy of every seed (a dot) of each row; the stroke with its number is the median. ρ "
    "is Spearman's rank correlation of the seeds' values with the place of their row, p that of a permutation test."
)
ROW_HEIGHT, MARGIN = 0.5, 0.8  # inches
QUANTITIES = {"keskar_sharpness": "sharpness", "test_accuracy": "test accuracy"}


def _values(table, frames) -> dict[str, pd.DataFrame]:
    """Return the places of rows and the values of their seeds, of each quantity."""
    places = {run: place for place, run in enumerate(drawn_rows(table))}
    lines = wide(frames["measures"], frames["runs"])
    lines = lines.assign(place=lines.run.map(places))
    return {name: lines[["run", "place", name]].dropna().rename(columns={name: "value"}) for name in QUANTITIES}


def _trend(lines: pd.DataFrame) -> tuple[str, str]:
    """Return whether the values rise, fall or show no trend along the places, and Spearman's ρ with its p as text."""
    if lines.place.nunique() < 2 or lines.value.nunique() < 2:
        return "shows no trend", "nothing varies"
    rho, p = rank_correlation(lines.place, lines.value)
    word = "shows no trend" if p > SIGNIFICANT else "rises" if rho > 0 else "falls"
    return word, f"Spearman's ρ = {signed(rho, 2)}, p {'< 0.001' if p < 0.001 else f'= {p:.2g}'}"


def strips(table, frames):
    """Draw the seeds of a row one below another, so that equal ones are seen."""
    rows = drawn_rows(table)
    size = (NARROW, ROW_HEIGHT * len(rows) + MARGIN)
    figure, axes = plt.subplots(1, len(QUANTITIES), figsize=size, sharey=True)
    for axis, (quantity, lines) in zip(axes, _values(table, frames).items(), strict=True):
        axis.set_xlabel(titled(quantity))
        axis.set_title(_trend(lines)[1] if len(lines) else "", loc="left")
        if lines.empty:
            say(axis, "not measured")
            continue
        for (place, run), mine in lines.groupby(["place", "run"]):
            # The golden ratio's multiples keep neighbours apart.
            apart = [0.5 * (index * 0.618 % 1) - 0.25 for index in range(len(mine))]
            axis.plot(mine.value, [place + y for y in apart], "o", color=table["colours"][run], ms=4, alpha=0.55, mew=0)
            median = mine.value.median()
            axis.vlines(median, place - 0.34, place + 0.34, color="black", lw=1.4, zorder=3)
            axis.annotate(rounded(median), (median, place - 0.34), (3, 1), textcoords="offset points", fontsize=SMALL)
        if lines.value.min() > 0 and lines.value.max() > 30 * lines.value.min():
            axis.set_xscale("log")
            log_ticks(axis.xaxis, lines.value.min(), lines.value.max())
    axes[0].set_yticks(range(len(rows)), [_named(label, frames["runs"], run) for run, label in rows.items()])
    axes[0].set_ylim(len(rows) - 0.5, -0.7)
    return figure


def _named(label: str, runs: pd.DataFrame, run: str) -> str:
    """Return a row's label, with its diverged seeds."""
    own = runs[runs.run == run]
    diverged = int((own.status == "diverged").sum())
    return label + ("" if len(own) else "\nnot run") + (f"\n{diverged} diverged" if diverged else "")


def message(table, frames):
    """Say whether sharpness and accuracy have a trend along the rows."""
    rows, found = drawn_rows(table), list(zip(QUANTITIES.values(), _values(table, frames).values(), strict=True))
    words = (f"{name} {_trend(lines)[0] if len(lines) else 'was not measured'}" for name, lines in found)
    labels = [*rows.values()]
    medians = (f"{label} {name} {rounded(lines[lines.run == run].value.median())}"
               for run, label in rows.items() for name, lines in found)  # fmt: skip
    return f"From {labels[0]} to {labels[-1]}, {' and '.join(words)}", f"Medians: {'; '.join(medians)}"
