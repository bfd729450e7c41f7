"""The figure of the rank correlations; apart from their computation, which needs no drawing library."""

import numpy as np
import pandas as pd

from whysgd.errors import UserError
from whysgd.measures.catalog import QUANTITIES
from whysgd.report.colours import PALETTE
from whysgd.report.correlations import COMPARED, OVERALL, TARGETS, expected_sign
from whysgd.report.style import STYLE, add_heading, add_legend, plt

MARKERS = "osD^vP"
WIDTH, ROW_HEIGHT, MARGIN = 11.5, 0.34, 1.4  # inches
SCOPE_HEIGHT = 0.14  # at least, within a row


@plt.rc_context(STYLE)
def plot_correlations(correlations: pd.DataFrame, setting: str):
    """Return the figure of the rank correlations: a row for each measure, a panel for each target.

    Points are correlations, bars their 95 % intervals; each scope has its colour and marker. On the shaded side of 0,
    flatter or quieter minima generalize better.

    Args:
        correlations: the frame of `whysgd.report.correlations.correlate`.
        setting: on what was measured, for the title.
    """
    if correlations.empty:
        raise UserError("correlations: nothing was measured, so there is nothing to draw")
    scopes = [scope for scope in correlations.scope.unique() if scope != OVERALL]
    scopes = scopes if len(scopes) == 1 else [OVERALL, *scopes]
    quantities = [name for name in COMPARED if name in set(correlations.quantity)]
    offsets = np.linspace(-0.3, 0.3, len(scopes)) if len(scopes) > 1 else [0.0]
    height = len(quantities) * max(ROW_HEIGHT, SCOPE_HEIGHT * len(scopes)) + MARGIN
    figure, axes = plt.subplots(1, len(TARGETS), figsize=(WIDTH, height), sharex=True, sharey=True)
    for axis, target in zip(axes, TARGETS, strict=True):
        shown = correlations[correlations.target == target].set_index(["scope", "quantity"])
        for place, quantity in enumerate(quantities):
            side = expected_sign(quantity, target)
            axis.fill_between([0, side], place - 0.44, place + 0.44, color="#999999", alpha=0.16, lw=0)
        for number, (scope, offset) in enumerate(zip(scopes, offsets, strict=True)):
            lines = shown.loc[scope].reindex(quantities)
            # Black for all papers, or the only one; then colours that are not near it.
            colour = PALETTE[2 + (number - 1) % (len(PALETTE) - 2)] if number else PALETTE[0]
            places = np.arange(len(quantities)) + offset
            axis.hlines(places, lines.low, lines.high, color=colour, lw=1.1 if number else 1.6)
            axis.plot(
                lines.rho, places, MARKERS[number % len(MARKERS)], color=colour, ms=4 if number else 5,
                label=_named(correlations, scope),
            )  # fmt: skip
        axis.axvline(0, color="black", lw=0.8)
        axis.set(xlim=(-1.04, 1.04), title=QUANTITIES[target].label, xlabel="Spearman's rank correlation")
        axis.grid(axis="y", visible=False)
    axes[0].set_yticks(range(len(quantities)), [QUANTITIES[name].label for name in quantities])
    axes[0].set_ylim(len(quantities) - 0.5, -0.5)
    add_legend(figure, "right center")
    add_heading(figure, "Do flat, or quiet, minima generalize? Shaded: where they do", setting)
    return figure


def _named(correlations: pd.DataFrame, scope: str) -> str:
    counts = sorted(set(correlations[(correlations.scope == scope) & (correlations.n > 0)].n))
    name = "all papers" if scope == OVERALL else scope
    if not counts:
        return f"{name}\n(too few runs)"
    return f"{name}\n({counts[0]}{f' to {counts[-1]}' if len(counts) > 1 else ''} runs)"
