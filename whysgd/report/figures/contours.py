"""Contours of the loss over a plane of two random directions, a panel for each of a table's `planes`."""

import textwrap

import numpy as np

from whysgd.errors import UserError
from whysgd.report.colours import PALETTE
from whysgd.report.figures._panels import drawn_rows, even, panels
from whysgd.report.figures._planes import LOW, basins, loss_scale, plane_of
from whysgd.report.style import log_ticks, plt, say

NEEDS = ("plane",)
CAPTION = (
    "Loss over a plane of two random, filter-normalized directions around the weights of each run, marked by a cross."
    " The levels are equally far apart on a logarithmic scale and the same in all panels, and the thick line is at 1"
    " nat; where a plane is left blank, the loss is not finite."
)
HEIGHT = 2.7  # inches
LEVELS, COLOURS = 13, "viridis_r"


def contours(table, frames):
    """Draw the plane of each run's first seed that has a loss."""
    rows = drawn_rows(table, table["planes"])
    if not rows:
        raise UserError(f"{table['title']}: has no run in `planes` that is made, so there is nothing to draw")
    planes = [plane_of(frames["plane"], run) for run in rows]
    norm, across = loss_scale(planes), even(len(rows), 3)
    figure, axes = panels(len(rows), across, HEIGHT, sharex=True, sharey=True)
    figure.set_layout_engine("compressed")  # Squares stay beside one another.
    for place, (axis, plane, label) in enumerate(zip(axes, planes, rows.values(), strict=True)):
        axis.set(
            aspect="equal", xticks=(-1, 0, 1), yticks=(-1, 0, 1), xlabel="α", ylabel="β" if place % across == 0 else ""
        )
        axis.set_title(textwrap.fill(label, 90 // across), loc="left")
        axis.grid(visible=False)
        if plane is None:
            say(axis, "no points")
            axis.set(xlim=(-1, 1), ylim=(-1, 1))
            continue
        alpha, beta, loss = plane
        loss, levels = np.ma.masked_invalid(loss).clip(norm.vmin, norm.vmax), np.geomspace(norm.vmin, norm.vmax, LEVELS)
        axis.contourf(alpha, beta, loss, levels=levels, norm=norm, cmap=COLOURS)
        axis.contour(alpha, beta, loss, levels=levels, colors="black", linewidths=0.3, alpha=0.6)
        if loss.min() < LOW < loss.max():
            axis.contour(alpha, beta, loss, levels=[LOW], colors="black", linewidths=1.8)
        axis.plot(0, 0, "x", color=PALETTE[1], ms=7, mew=1.8)
    bar = figure.colorbar(plt.cm.ScalarMappable(norm, COLOURS), ax=axes, label="loss [nats]", shrink=0.8, pad=0.03)
    log_ticks(bar.ax.yaxis, norm.vmin, norm.vmax)
    bar.ax.minorticks_off()
    return figure


def message(table, frames):
    """Say who has the widest basin and who the narrowest."""
    return basins(table, frames["plane"], table["planes"], "plane")
