"""Contours of the loss over a plane of two random directions, a panel for each of a table's `planes`."""

import numpy as np

from whysgd.report.colours import PALETTE
from whysgd.report.figures._planes import COLOURS, draw_planes
from whysgd.report.style import say

NEEDS = ("plane",)
CAPTION = (
    "Loss over a plane of two random, filter-normalized directions around the weights of each run, marked by a cross."
    " The levels are equally far apart on a logarithmic scale and the same in all panels; where a plane is white, the"
    " loss is not finite."
)
PANEL = (2.7, 3.0)  # inches; the width is the limit, so that what is above and below the squares finds its place
LEVELS = 13


def contours(table, frames, setting):
    """Draw the plane of each run's first seed that has a loss."""
    return draw_planes(table, frames["plane"], setting, _contours, PANEL, sharex=True, sharey=True)


def _contours(axis, plane, norm) -> None:
    axis.grid(visible=False)
    axis.set(aspect="equal", xticks=(-1, 0, 1), yticks=(-1, 0, 1))
    if plane is None:
        say(axis, "no points")
        axis.set(xlim=(-1, 1), ylim=(-1, 1))
        return
    alpha, beta, loss = plane
    loss, levels = np.ma.masked_invalid(loss).clip(norm.vmin, norm.vmax), np.geomspace(norm.vmin, norm.vmax, LEVELS)
    axis.contourf(alpha, beta, loss, levels=levels, norm=norm, cmap=COLOURS)
    axis.contour(alpha, beta, loss, levels=levels, colors="black", linewidths=0.3, alpha=0.6)
    axis.plot(0, 0, "x", color=PALETTE[6], ms=7, mew=1.8)
