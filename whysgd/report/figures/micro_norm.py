"""Average micro-batch gradient norm over update steps, a panel for each row of a table and a line for each method."""

import numpy as np

from whysgd.report.figures._steps import draw_steps

NEEDS = ("histories",)
CAPTION = (
    "Average micro-batch gradient norm, the square root of the mean of the squared norms of the probed micro-"
    "batches, over update steps: mean over seeds, and a band from the lowest to the highest seed. Neighbouring lines "
    "of a long history are averaged."
)
PANEL = (3.4, 3.2)  # inches


def micro_norm(table, frames, setting):
    """Draw the roots of the logged mean squares."""
    values = np.sqrt(frames["histories"].micro_batch_norm2.astype(float))
    histories = frames["histories"].assign(value=values)
    return draw_steps(table, histories, "average micro-batch gradient norm", setting, PANEL, log=True)
