"""A grid's quantity as a map: the mean over seeds in each cell, with its number."""

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import Normalize

from whysgd.report.figures._grid import axis_values, grid_panels, named
from whysgd.report.measures import rounded, titled
from whysgd.report.style import SEQUENTIAL, SMALL, WIDE, plt

NEEDS = ("measures", "grid")
CAPTION = (
    "The same numbers as a map: the mean over seeds of each cell of the grid, with one scale of colours for all "
    "panels; grey cells have no number."
)
ROW_HEIGHT, MARGIN = 0.3, 0.8  # inches


def heatmap(table, frames):
    """Draw a map for each combination of the rows' axes but the last one."""
    frame, drawn, inner, across = grid_panels(table, frames["measures"])
    rows, columns = axis_values(table, inner), axis_values(table, across)
    means = frame.groupby("run").value.mean()
    scale = Normalize(means.min(), means.max() if means.max() > means.min() else means.min() + 1)
    digits = max(0, 2 - int(np.floor(np.log10(max(means.abs().max(), 1e-9)))))
    size = (WIDE, ROW_HEIGHT * len(rows) + MARGIN)
    figure, axes = plt.subplots(1, len(drawn), figsize=size, sharey=True, squeeze=False)
    for axis, (title, part) in zip(axes[0], drawn, strict=True):
        cells = part.groupby([inner, across]).value.mean().unstack().reindex(index=rows, columns=columns)
        image = axis.imshow(cells, cmap=colormaps[SEQUENTIAL], norm=scale, aspect="auto")
        axis.set_facecolor("#dddddd")
        for y, x in np.ndindex(cells.shape):
            value = cells.iat[y, x]
            dark = not np.isnan(value) and scale(value) < 0.6
            text, colour = "–" if np.isnan(value) else f"{value:.{digits}f}", "white" if dark else "black"
            axis.text(x, y, text, ha="center", va="center", fontsize=SMALL, color=colour)
        axis.set_title(title, loc="left")
        axis.set_xlabel(across)
        axis.set_xticks(range(len(columns)), [named(value) for value in columns])
        axis.set_yticks(range(len(rows)), [named(value) for value in rows])
        axis.tick_params(length=0)
        axis.grid(visible=False)
        axis.spines[:].set_visible(False)
    axes[0][0].set_ylabel(inner)
    figure.colorbar(image, ax=axes[0].tolist(), label=titled(table["metric"]), fraction=0.05, pad=0.02)
    return figure


def message(table, frames):
    """Say between which cells' means the quantity lies."""
    frame, *_ = grid_panels(table, frames["measures"])
    means = frame.groupby("run").value.mean()
    cells = {
        row["run"]: ", ".join(f"{axis} {named(value)}" for axis, value in row["axes"].items()) for row in table["rows"]
    }
    low, high = means.idxmin(), means.idxmax()
    title = f"{titled(table['metric']).capitalize()} from {rounded(means[low])} to {rounded(means[high])}"
    return title, f"Lowest at {cells[low]}; highest at {cells[high]}; {len(means)} networks"
