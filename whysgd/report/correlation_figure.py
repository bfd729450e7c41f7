"""The figure of the correlations; apart from their computation, which needs no drawing library."""

from itertools import cycle

import numpy as np
import pandas as pd

from whysgd.measures.catalog import QUANTITIES
from whysgd.report.colours import PALETTE
from whysgd.report.correlations import AT_LOSS, COMPARED, OVERALL, RAW, TARGETS, expected_sign, sides
from whysgd.report.style import STYLE, WIDE, add_heading, add_legend, plt, say

MARKERS = "osD^vP"
ROW_HEIGHT, MARGIN = 0.34, 1.1  # inches
SCOPE_HEIGHT = 0.14  # at least, within a row
SHADE = {"color": "#999999", "alpha": 0.16, "lw": 0}
RING = {"mfc": "none", "alpha": 0.4}


@plt.rc_context(STYLE)
def plot_correlations(correlations: pd.DataFrame, setting: str):
    """Return the figure of Kendall's τ: a row for each measure and a panel for each target that has a number.

    Filled points are correlations at the same training loss, bars their 95 % intervals, and faint open ones those of
    all pairs; each paper has its colour and marker. On the shaded side of 0, flatter or quieter minima generalize
    better. `correlations` are those of `whysgd.report.correlations.correlate`; `setting` says on what was measured.
    """
    found = correlations.set_index(["coefficient", "target", "scope", "quantity"]).sort_index()
    known = correlations[(correlations.scope != OVERALL) & correlations.value.notna()]
    papers = known.scope.unique()
    offsets = np.linspace(-0.3, 0.3, len(papers)) if len(papers) != 1 else [0.0]
    shown = [name for name in COMPARED if name in set(known.quantity)] or COMPARED[:1]
    targets = [target for target in TARGETS if target in set(known.target)] or TARGETS[:1]
    height = len(shown) * max(ROW_HEIGHT, SCOPE_HEIGHT * len(papers)) + MARGIN
    size = (WIDE, height)
    figure, (axes,) = plt.subplots(1, len(targets), figsize=size, squeeze=False, sharex=True, sharey=True)
    for axis, target in zip(axes, targets, strict=True):
        for place, quantity in enumerate(shown):
            axis.fill_between([0, expected_sign(quantity, target)], place - 0.44, place + 0.44, **SHADE)
        for paper, offset, marker, colour in zip(papers, offsets, cycle(MARKERS), cycle(PALETTE), strict=False):
            raw, same = (found.loc[name, target, paper].loc[shown] for name in (RAW, AT_LOSS))
            places = np.arange(len(shown)) + offset
            axis.hlines(places, same.low, same.high, color=colour, lw=1.1)
            counts = found.pairs.loc[[AT_LOSS, RAW], :, paper].groupby("coefficient").max()
            label = f"{paper}\n({counts[AT_LOSS]} of {counts[RAW]} pairs)"
            axis.plot(same.value, places, marker, color=colour, ms=4.5, label=label)
            axis.plot(raw.value, places, marker, color=colour, ms=4.5, **RING)
        axis.axvline(0, color="black", lw=0.8)
        axis.set(xlim=(-1.04, 1.04), title=QUANTITIES[target].label, xlabel="Kendall's τ")
        axis.grid(axis="y", visible=False)
    if known.empty:
        for axis in axes:
            say(axis, "too few runs")
    else:
        filled = "filled: τ at the same training\nloss, with its 95 % interval"
        axes[0].plot([], [], "o-", color="black", lw=1.1, ms=4.5, label=filled)
        axes[0].plot([], [], "o", color="black", ms=4.5, **RING, label="open: τ of all pairs,\nwhatever their loss")
    axes[0].fill_between([], [], **SHADE, label="shaded: flatter or quieter\ngeneralizes better")
    axes[0].set_yticks(range(len(shown)), [QUANTITIES[name].label for name in shown])
    axes[0].set_ylim(len(shown) - 0.5, -0.5)
    add_legend(figure, "right center")
    title, numbers = message(known)
    add_heading(figure, title, setting, numbers)
    return figure


def message(known: pd.DataFrame) -> tuple[str, str]:
    """Return in how many of the papers' correlations flatter, or quieter, minima generalize better and worse, and the
    counts of each measure at the same training loss.
    """
    same, raw = (sides(known[known.coefficient == name]) for name in (AT_LOSS, RAW))
    if same.empty:
        return "Too few runs have the same training loss to say whether flatter or quieter minima generalize better", ""
    silent, for_, against = ((same == sign).sum() for sign in (0, 1, -1))
    claim, count = "flatter or quieter minima generalize better", len(same)
    said = f"{for_} of {count} correlations say that {claim}, {against} that they do not, and {silent} neither"
    if not for_ + against:
        said = f"none of {count} correlations with an interval says whether {claim}"
    title = f"At the same training loss, {said}"
    measures = (f"{QUANTITIES[name].label} {_counts(part)}" for name, part in same.groupby(known.quantity, sort=False))
    return title, f"{'; '.join(measures)}; of all pairs of runs {_counts(raw)}"


def _counts(signs: pd.Series) -> str:
    return f"better in {(signs > 0).sum()} and worse in {(signs < 0).sum()} of {len(signs)}"
