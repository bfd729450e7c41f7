"""A grid's quantity as a map: the mean over seeds in each cell, with its number."""

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import Normalize

from whysgd.report.figures._grid import axis_values, grid_panels, named
from whysgd.report.figures._panels import seeds_of
from whysgd.report.measures import titled
from whysgd.report.style import SEQUENTIAL, add_heading, plt

NEEDS = ("measures", "grid")
CAPTION = (
    "The same numbers as a map: the mean over seeds of each cell of the grid, with one scale of colours for all "
    "panels; grey cells have no number."
)
CELL, MARGIN = (0.5, 0.36), (1.2, 1.9)  # inches


def heatmap(table, frames, setting):
    """Draw a map for each combination of the rows' axes but the last one."""
    frame, drawn, inner, across = grid_panels(table, frames["measures"])
    rows, columns = axis_values(table, inner), axis_values(table, across)
    means = frame.groupby("run").value.mean()
    scale = Normalize(means.min(), means.max() if means.max() > means.min() else means.min() + 1)
    digits = max(0, 2 - int(np.floor(np.log10(max(means.abs().max(), 1e-9)))))
    panel = max(3.4, CELL[0] * len(columns) + 1.0)
    size = (panel * len(drawn) + MARGIN[0], CELL[1] * len(rows) + MARGIN[1])
    figure, axes = plt.subplots(1, len(drawn), figsize=size, sharey=True, squeeze=False)
    for axis, (title, part) in zip(axes[0], drawn, strict=True):
        cells = part.groupby([inner, across]).value.mean().unstack().reindex(index=rows, columns=columns)
        image = axis.imshow(cells, cmap=colormaps[SEQUENTIAL], norm=scale, aspect="auto")
        axis.set_facecolor("#dddddd")
        for y, x in np.ndindex(cells.shape):
            value = cells.iat[y, x]
            dark = not np.isnan(value) and scale(value) < 0.6
            text, colour = "–" if np.isnan(value) else f"{value:.{digits}f}", "white" if dark else "black"
            axis.text(x, y, text, ha="center", va="center", fontsize=7.5, color=colour)
        axis.set(title=title, xlabel=across)
        axis.set_xticks(range(len(columns)), [named(value) for value in columns])
        axis.set_yticks(range(len(rows)), [named(value) for value in rows])
        axis.tick_params(length=0)
        axis.grid(visible=False)
        axis.spines[:].set_visible(False)
    axes[0][0].set_ylabel(inner)
    figure.colorbar(image, ax=axes[0].tolist(), label=titled(table["metric"]), fraction=0.05, pad=0.02)
    add_heading(figure, table["title"], f"{setting}; {seeds_of(frame)}")
    return figure
