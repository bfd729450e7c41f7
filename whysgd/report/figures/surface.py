"""The loss over a plane of two random directions as a surface, a panel for each of a table's `planes`."""

import numpy as np
from matplotlib import colormaps
from matplotlib.ticker import FuncFormatter, MaxNLocator

from whysgd.report.figures._planes import COLOURS, draw_planes
from whysgd.report.style import number, say

NEEDS = ("plane",)
CAPTION = "The same planes as surfaces: height and colour are the loss on a logarithmic scale, the same in all panels."
PANEL = (2.7, 2.6)  # inches


def surface(table, frames, setting):
    """Draw log10 of the loss of each run's first seed that has one."""
    return draw_planes(table, frames["plane"], setting, _surface, PANEL, subplot_kw={"projection": "3d"})


def _surface(axis, plane, norm) -> None:
    axis.set_title(axis.get_title(), fontsize=9, y=0.98)
    axis.view_init(elev=32, azim=-58)
    axis.set(zlim=np.log10([norm.vmin, norm.vmax]), xlim=(-1, 1), ylim=(-1, 1))
    axis.set(xticks=(-0.5, 0, 0.5), yticks=(-0.5, 0, 0.5))
    axis.set_xlabel("α", labelpad=-7)
    axis.set_ylabel("β", labelpad=-7)
    axis.tick_params(labelsize=7, pad=-3)
    axis.zaxis.set_major_locator(MaxNLocator(4, integer=True))
    axis.zaxis.set_major_formatter(FuncFormatter(lambda value, _: number(10.0**value)))
    if plane is None:
        say(axis, "no points")
        return
    alpha, beta, loss = plane
    loss = np.where(np.isfinite(loss), np.clip(loss, norm.vmin, norm.vmax), np.nan)
    colours = colormaps[COLOURS](norm(np.nan_to_num(loss, nan=norm.vmax)))
    look = {"rcount": 60, "ccount": 60, "linewidth": 0, "antialiased": True, "shade": False}
    axis.plot_surface(*np.meshgrid(alpha, beta), np.log10(loss), facecolors=colours, **look)
