"""Loss and accuracy along a random direction from the weights of each run, a panel for each row of a table."""

import textwrap

import numpy as np
import pandas as pd

from whysgd.report.colours import PALETTE
from whysgd.report.figures._panels import drawn_rows, even, panels
from whysgd.report.style import add_heading, add_legend, say

NEEDS = ("line",)
CAPTION = (
    "Loss (left axis, on the images trained on, cut off at 5 nats) and accuracy (right axis) along one random "
    "direction from the weights of each run, with every filter of the direction as long as the filter it moves. "
    "Dashed is geiping2022’s full loss, with weight decay and its gradient penalty at the peak learning rate, where it "
    "is another one; each seed is a line."
)
PANEL, MARGIN = (2.7, 2.6), (1.2, 1.1)  # inches
LOSS, ACCURACY = PALETTE[5], PALETTE[6]
TOP = 5.0  # nats; of the loss axis, as in the code of Li et al., Visualizing the loss landscape (2018)


def landscape(table, frames, setting):
    """Draw a line for each seed; all panels share both axes."""
    rows, lines = drawn_rows(table), frames["line"]
    losses = lines[["loss", "full_loss"]].to_numpy(dtype=float)
    losses = losses[np.isfinite(losses)]
    top = min(TOP, 1.05 * losses.max()) if len(losses) and losses.max() > 0 else 1.0
    across = even(len(rows), 4)
    figure, axes = panels(len(rows), across, PANEL, MARGIN, sharex=True, sharey=True)
    for place, (axis, (run, label)) in enumerate(zip(axes, rows.items(), strict=True)):
        right, first, last = axis.twinx(), place % across == 0, (place + 1) % across == 0
        right.spines["right"].set_visible(True)
        right.grid(visible=False)
        right.set(ylim=(0, 102), ylabel="accuracy [%]" if last else "")
        right.yaxis.label.set_color(ACCURACY)
        right.tick_params(axis="y", colors=ACCURACY, labelright=last)
        axis.set(ylim=(0, top), xlabel="α", ylabel="loss [nats]" if first else "")
        axis.yaxis.label.set_color(LOSS)
        axis.tick_params(axis="y", colors=LOSS)
        axis.set_title(textwrap.fill(label, 30), fontsize=9)
        mine = lines[lines.run == run]
        _profile(axis, right, mine)
        if not np.isfinite(mine[["loss", "accuracy"]].to_numpy(dtype=float)).any():
            say(axis, "no points")
    add_legend(figure, "lower center", ncols=3)
    add_heading(figure, table["title"], setting)
    return figure


def _profile(axis, right, lines: pd.DataFrame) -> None:
    """Draw each seed of one run; where a point has no loss, the line is interrupted."""
    look = {"lw": 1.5, "alpha": 1.0} if lines.seed.nunique() == 1 else {"lw": 0.9, "alpha": 0.7}
    for _, line in lines.sort_values("alpha").groupby("seed"):
        axis.plot(line.alpha, line.loss, color=LOSS, label="loss", **look)
        if not np.allclose(line.full_loss.astype(float), line.loss, rtol=1e-3, equal_nan=True):
            axis.plot(line.alpha, line.full_loss, "--", color=LOSS, label="loss with penalties", **look)
        right.plot(line.alpha, line.accuracy, ":", color=ACCURACY, label="training accuracy", **look)
