"""Norms of each layer's weights, and of their mean gradient, along the steps of each run's first seed."""

import textwrap

from whysgd.report.figures._panels import drawn_rows
from whysgd.report.style import add_heading, add_legend, log_ticks, plt, step_axis, value_colours

NEEDS = ("layers",)
CAPTION = (
    "Norms of the weights of each layer and of their mean gradient over the training images, along the first seed of "
    "each run; the axis begins with step 0."
)
WIDTH, HEIGHT = 3.4, 5.6  # inches, of a run's two panels
LEAST_WIDTH = 6.0  # inches, of the figure
QUANTITIES = {"weight_norm": "norm of the weights", "gradient_norm": "norm of their mean gradient"}


def layer_norms(table, frames, setting):
    """Draw a column for each run and a colour for each layer; biases are not drawn."""
    weights = frames["layers"][frames["layers"].layer.str.endswith("weight")]
    rows = drawn_rows(table, set(weights.run))
    colours = value_colours(list(range(weights.groupby("run").layer.nunique().max())))
    size = (max(LEAST_WIDTH, WIDTH * len(rows)), HEIGHT)
    figure, axes = plt.subplots(2, len(rows), figsize=size, sharex="col", sharey="row", squeeze=False)
    for column, (run, label) in zip(axes.T, rows.items(), strict=True):
        mine = weights[weights.run == run]
        mine = mine[mine.seed == mine.seed.min()].sort_values("step", kind="stable")
        for axis, quantity in zip(column, QUANTITIES, strict=True):
            for place, (_, lines) in enumerate(mine.groupby("layer", sort=False)):
                axis.plot(lines.step, lines[quantity], color=colours[place], lw=1.3, label=f"{place + 1}")
            axis.set_yscale("log")
            positive = weights[weights[quantity] > 0][quantity]
            log_ticks(axis.yaxis, positive.min(), positive.max())
            step_axis(axis, mine.step.max())
        column[0].set(title=textwrap.fill(label, 34), xlabel="")
    for axis, name in zip(axes[:, 0], QUANTITIES.values(), strict=True):
        axis.set_ylabel(name)
    add_legend(figure, "right center", title="layer")
    add_heading(figure, table["title"], f"{setting}; first seed")
    return figure
