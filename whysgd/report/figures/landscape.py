"""Loss along a random direction from the weights of each run, and below it the accuracy; a column for each row."""

import textwrap

from whysgd.report.figures._panels import drawn_rows
from whysgd.report.figures._planes import LOW, basins, finite_seeds
from whysgd.report.style import QUIET, TEXT, WIDE, plt, say

NEEDS = ("line",)
CAPTION = (
    "Loss on the images trained on (cut off at 5 nats) and, below, accuracy on them along one random direction from "
    "the weights of each run, with every filter of the direction as long as the filter it moves. A line is a seed."
)
HEIGHT = 3.9  # inches, of both lines of panels
TOP = 5.0  # nats; of the loss axis, as in the code of Li et al., Visualizing the loss landscape (2018)


def landscape(table, frames):
    """Draw a line for each seed; where a point has no loss, the line is interrupted."""
    rows, lines = drawn_rows(table), finite_seeds(frames["line"])
    figure, axes = plt.subplots(2, len(rows), figsize=(WIDE, HEIGHT), sharex=True, sharey="row", squeeze=False)
    for (loss, accuracy), (run, label) in zip(axes.T, rows.items(), strict=True):
        mine = lines[lines.run == run].sort_values("alpha")
        for _, line in mine.groupby("seed"):
            look = {"color": table["colours"][run], "lw": 1.6 if mine.seed.nunique() == 1 else 0.9, "alpha": 0.8}
            loss.plot(line.alpha, line.loss, **look)
            accuracy.plot(line.alpha, line.accuracy.astype(float), **look)
        loss.axhline(LOW, color=QUIET, lw=0.8, ls=(0, (4, 3)), zorder=1)
        loss.set_title(textwrap.fill(label, 90 // len(rows)), loc="left")
        accuracy.set_ylim(0, 102)
        if mine.empty:
            say(loss, "no points")
    top = lines.loss.max()
    axes[0, 0].set(ylabel="loss [nats]", ylim=(0, min(TOP, 1.05 * top) if top > 0 else 1.0))
    axes[1, 0].set_ylabel("accuracy [%]")
    figure.supxlabel("distance from the weights along a random direction [filter norms]", fontsize=TEXT)
    return figure


def message(table, frames):
    """Say who has the widest basin and who the narrowest."""
    return basins(table, frames["line"], None, "line")
