"""A grid's quantity as a map: the mean over seeds in each cell, with its number."""

import textwrap

import numpy as np
import seaborn as sns

from whysgd.report.figures._grid import axis_values, extremes, grid_panels, named
from whysgd.report.measures import titled
from whysgd.report.style import ON_DARK, ON_LIGHT, SEQUENTIAL, SMALL, WIDE, plt

NEEDS = ("measures", "grid", "rows")
CAPTION = (
    "The same numbers as a map: the mean over seeds of each cell of the grid, with one scale of colours for all "
    "panels; grey cells have no number."
)
ROW_HEIGHT, MARGIN = 0.3, 0.8  # inches
FEWEST = 4  # rows that the height has room for, so that the name of the colours fits beside them
LETTERS = 12  # of that name, to an inch


def heatmap(table, frames):
    """Draw a map for each combination of the rows' axes but the last one."""
    frame, drawn, inner, across = grid_panels(table, frames["measures"])
    rows, columns = axis_values(table, inner), axis_values(table, across)
    means = frame.groupby("run").value.mean()
    digits = max(0, 2 - int(np.floor(np.log10(max(means.abs().max(), 1e-9)))))
    look = {"vmin": means.min(), "vmax": means.max(), "cmap": SEQUENTIAL, "annot": True, "fmt": f".{digits}f",
            "annot_kws": {"fontsize": SMALL}, "cbar": False}  # fmt: skip
    height = ROW_HEIGHT * max(FEWEST, len(rows))
    size = (WIDE, height + MARGIN)
    figure, (axes,) = plt.subplots(1, len(drawn), figsize=size, sharey=True, squeeze=False)
    for axis, (title, part) in zip(axes, drawn, strict=True):
        cells = part.groupby([inner, across]).value.mean().unstack().reindex(index=rows, columns=columns)
        sns.heatmap(cells, ax=axis, xticklabels=[*map(named, columns)], yticklabels=[*map(named, rows)], **look)
        for text in axis.texts:
            text.set_color(ON_DARK if text.get_color() == "w" else ON_LIGHT)
        axis.set_facecolor("#dddddd")
        axis.set_title(title, loc="left")
        axis.set(xlabel=across, ylabel="")
        axis.tick_params(length=0)
        axis.tick_params(axis="y", rotation=0)
        axis.grid(visible=False)
    axes[0].set_ylabel(inner)
    label = textwrap.fill(titled(table["metric"]), int(LETTERS * height))
    figure.colorbar(axes[0].collections[0], ax=axes.tolist(), label=label, fraction=0.05, pad=0.02)
    return figure


def message(table, frames):
    """Say between which cells' means the quantity ranges."""
    frame, *_ = grid_panels(table, frames["measures"])
    return extremes(table, frame)
