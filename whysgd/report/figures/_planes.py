"""The loss over planes around the weights of a table's runs, on one scale of colours."""

import textwrap

import numpy as np
import pandas as pd
from matplotlib.colors import LogNorm

from whysgd.report.figures._panels import drawn_rows, even, panels
from whysgd.report.style import add_heading, log_ticks, plt

MARGIN = (1.2, 1.1)  # inches
COLOURS = "viridis_r"
SPAN = 1e4  # What is lower than the highest loss by more has the lowest colour.


def plane_of(points: pd.DataFrame, run: str) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Return α (a,), β (b,) and the loss (b, a) over the plane of a run's first seed; None if no point has a loss."""
    mine = points[points.run == run]
    known = mine[np.isfinite(mine.loss.astype(float))]
    mine = mine[mine.seed == known.seed.min()]
    grid = mine.assign(loss=mine.loss.astype(float)).pivot_table(
        index="beta", columns="alpha", values="loss", dropna=False
    )
    if min(grid.shape) < 2:
        return None
    return grid.columns.to_numpy(dtype=float), grid.index.to_numpy(dtype=float), grid.to_numpy()


def loss_range(planes: list) -> tuple[float, float]:
    """Return the lowest and the highest loss of all planes, at most `SPAN` apart, so that a logarithm can show both."""
    losses = np.concatenate([[], *(plane[2].ravel() for plane in planes if plane is not None)])
    losses = losses[np.isfinite(losses) & (losses > 0)]
    if not len(losses):
        return 0.1, 1.0
    high = losses.max()
    low = max(losses.min(), high / SPAN)
    return (low, high) if low < high else (low / 2, 2 * high)


def draw_planes(table: dict, points: pd.DataFrame, setting: str, draw, panel: tuple, **options):
    """Return a figure with a panel for each of a table's `planes`, and the scale of their colours beside them.

    Args:
        table, setting: of the figure.
        points: of the planes.
        draw: called with the axis of a panel, its plane (None if it has no points) and the scale of colours.
        panel: width and height in inches.
        options: of `plt.subplots`.
    """
    rows = drawn_rows(table, table["planes"])
    planes = [plane_of(points, run) for run in rows]
    norm = LogNorm(*loss_range(planes))
    across = even(len(rows), 4)
    figure, axes = panels(len(rows), across, panel, MARGIN, **options)
    for place, (axis, plane, label) in enumerate(zip(axes, planes, rows.values(), strict=True)):
        axis.set(xlabel="α", ylabel="β" if place % across == 0 else "")
        axis.set_title(textwrap.fill(label, 30), fontsize=9)
        draw(axis, plane, norm)
    mappable = plt.cm.ScalarMappable(norm, COLOURS)
    bar = figure.colorbar(mappable, ax=axes, label="loss [nats]", shrink=0.8, pad=0.03)
    log_ticks(bar.ax.yaxis, norm.vmin, norm.vmax)
    bar.ax.minorticks_off()
    add_heading(figure, table["title"], setting)
    return figure
