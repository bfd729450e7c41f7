"""Accuracy of each row of a table as its difference to the baseline, published and measured side by side."""

import numpy as np

from whysgd.report.baselines import differences, row_name, seeds_of_row
from whysgd.report.figures._rows import baseline_name, clearly_beside, told
from whysgd.report.style import NARROW, QUIET, SMALL, TEXT, plt, say, signed

NEEDS = ("accuracy",)
CAPTION = (
    "Difference of each row's accuracy to that of its baseline: as published (left) and as measured (right), where the "
    "dot is the difference of the means with its 95 % interval, and a stroke that of a seed. Rows that "
    "share three seeds or more are paired by seed; one seed has no interval. Where differences are large, the axis is "
    "linear within a point of 0 and logarithmic beyond, and ends at 100 points, where an arrow says that a bar goes on."
)
ROW_HEIGHT, MARGIN = 0.27, 0.75  # inches
LARGE, MOST = 10.0, 100.0  # points, beyond which the axis is logarithmic, and at which it ends


def comparison(table, frames):
    """Draw a line for each row that was measured, the first one on top, with its numbers on the right."""
    found, runs = differences(table, frames["runs"]), frames["runs"]
    known = any(one.published is not None for one in found)
    size = (NARROW, ROW_HEIGHT * max(len(found), 3) + MARGIN)
    figure, (axes,) = plt.subplots(1, 1 + known, figsize=size, sharey=True, sharex=True, squeeze=False)
    measured, name = axes[-1], baseline_name(table, found)
    ends = [0.0]
    for place, one in enumerate(found):
        colour = table["colours"][one.row["run"]]
        own, base = seeds_of_row(runs, one.row), seeds_of_row(runs, one.baseline)
        half = one.half or 0.0
        pairs = [own[seed] - base[seed] for seed in own if seed in base]
        measured.errorbar(one.value, place, xerr=one.half, fmt="o", color=colour, ms=7, mec="white", elinewidth=1.4)
        measured.plot(pairs, [place] * len(pairs), "|", color=QUIET, ms=11, mew=1.1, zorder=3)
        for sign, marker in ((-1, "<"), (1, ">")):
            if sign * one.value + half > MOST:  # The bar goes on beyond the axis.
                measured.plot(sign * MOST, place, marker, color=colour, ms=7, mew=0, clip_on=False)
        _written(measured, place, told(one))
        ends += [*pairs, *np.clip([one.value - half, one.value + half], -MOST, MOST)]
        if one.published is not None:
            axes[0].plot(one.published, place, "o", color=colour, ms=7, mfc="none", mew=1.6)
            _written(axes[0], place, signed(one.published, 2))
            ends.append(one.published)
    for axis, title in zip(axes, ["published", "measured"] if known else ["measured"], strict=True):
        axis.axvline(0, color=QUIET, lw=0.8, zorder=1)
        axis.set_title(title, loc="left")
    axes[0].set_yticks(range(len(found)), [row_name(one.row) for one in found])
    axes[0].set_ylim(len(found) - 0.5, -0.5)
    bent = _scale(measured, min(ends), max(ends))
    how = ", logarithmic beyond ±1" if bent else ""
    figure.supxlabel(f"difference in test accuracy to {name} [points{how}]", fontsize=TEXT)
    if not found:
        say(measured, "no row beside the baseline was measured")
    return figure


def _written(axis, place: int, text: str) -> None:
    axis.annotate(text, (1, place), (2, 0), xycoords=("axes fraction", "data"), textcoords="offset points", va="center",
                  fontsize=SMALL, color=QUIET)  # fmt: skip


def _scale(axis, low: float, high: float) -> bool:
    """Show all differences and return whether the axis is logarithmic far from 0."""
    if max(-low, high) <= LARGE:
        margin = 0.15 * (high - low) or 1.0
        axis.set_xlim(low - margin, high + margin)
        return False
    axis.set_xscale("symlog", linthresh=1, linscale=0.7)
    axis.set_xticks([-100, -10, -1, 0, 1, 10, 100], ["−100", "−10", "−1", "0", "1", "10", "100"])
    axis.xaxis.minorticks_off()
    axis.set_xlim(max(-MOST, min(-1.0, 1.6 * low)), min(MOST, max(1.0, 1.6 * high)))
    return True


def message(table, frames):
    """Name the rows that are clearly above or below the baseline."""
    found = differences(table, frames["runs"])
    numbers = (
        f"{row_name(one.row)} {told(one)} points"
        + ("" if one.published is None else f" (published {signed(one.published, 2)})")
        for one in found
    )
    return clearly_beside(found, baseline_name(table, found)), "; ".join(numbers)
