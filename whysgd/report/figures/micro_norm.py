"""Average micro-batch gradient norm over update steps, as the ratio to that of the large batch."""

import numpy as np

from whysgd.report.baselines import differences, row_name
from whysgd.report.figures._panels import made_rows
from whysgd.report.figures._rows import baseline_name
from whysgd.report.figures._steps import draw_multiples, grid_of, to_baseline

NEEDS = ("histories",)
CAPTION = (
    "Average micro-batch gradient norm, the square root of the mean of the squared norms of the probed micro-batches, "
    "in units of the baseline's (where the gap of the table begins) at the same step and seed: the median over the "
    "seeds that have not ended, with a thin line for each of up to five seeds or a band between the quartiles. Grey "
    "are the medians of the other methods."
)
ALIKE = 1.05  # a ratio, or its inverse, that is no finding


def micro_norm(table, frames):
    """Draw the ratios of the roots of the logged mean squares."""
    name = baseline_name(table, differences(table, frames["runs"]))
    return draw_multiples(table, frames, _ratios(table, frames), f"micro-batch gradient norm / {name}'s", 1.0, log=True)


def _ratios(table, frames):
    histories = frames["histories"]
    values = np.sqrt(histories.micro_batch_norm2.astype(float))
    return to_baseline(table, histories.assign(value=values), ratio=True)


def message(table, frames):
    """Say whose norm ends farthest from the baseline's, by the median over seeds."""
    lines = _ratios(table, frames)
    rows = made_rows(table)
    ends = lines[lines.step == lines.groupby("run").step.transform("max")].groupby("run", sort=False).value.median()
    if ends.empty:
        return "No micro-batch gradient norm was measured beside the baseline's", ""
    farthest = np.log(ends).abs().idxmax()
    several = len(grid_of(table)) > 1
    labels = {run: row_name(row) if several or not row["column"] else row["column"] for run, row in rows.items()}
    numbers = "; ".join(f"{labels[run]} {ratio:.2f}" for run, ratio in ends.items())
    if max(ends[farthest], 1 / ends[farthest]) < ALIKE:
        return "No method moves the micro-batch gradient norm by 5 % from the baseline's", numbers
    name = baseline_name(table, differences(table, frames["runs"]))
    return f"{labels[farthest]} moves the micro-batch gradient norm most, to {ends[farthest]:.2f} of {name}'s", numbers
