"""The loss around the weights of a table's runs: how much of a line or a plane is low, and planes on one scale."""

import numpy as np
import pandas as pd
from matplotlib.colors import LogNorm

from whysgd.report.figures._panels import drawn_rows
from whysgd.report.style import joined

LOW = 1.0  # nat
SPAN = 1e4  # What is lower than the highest loss by more has the lowest colour.


def finite_seeds(points: pd.DataFrame) -> pd.DataFrame:
    """Return the points of the seeds that have a loss, those that have none among them."""
    points = points.assign(loss=points.loss.astype(float).replace([np.inf, -np.inf], np.nan))
    return points[points.groupby(["run", "seed"]).loss.transform("count") > 0]


def plane_of(points: pd.DataFrame, run: str) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Return α (a,), β (b,) and the loss (b, a) over the plane of a run's first seed; None if no point has a loss."""
    mine = finite_seeds(points[points.run == run])
    grid = mine[mine.seed == mine.seed.min()].pivot_table(index="beta", columns="alpha", values="loss", dropna=False)
    if min(grid.shape) < 2:
        return None
    return grid.columns.to_numpy(dtype=float), grid.index.to_numpy(dtype=float), grid.to_numpy()


def loss_scale(planes: list) -> LogNorm:
    """Return one scale for the losses of all planes; what is more than `SPAN` below the highest has its end."""
    losses = np.concatenate([[], *(plane[2].ravel() for plane in planes if plane is not None)])
    losses = losses[np.isfinite(losses) & (losses > 0)]
    high = losses.max(initial=0.0) or 1.0
    low = max(losses.min(initial=high), high / SPAN)
    return LogNorm(low, high) if low < high else LogNorm(low / 2, 2 * high)


def basins(table: dict, points: pd.DataFrame, only, where: str) -> tuple[str, str]:
    """Return whose loss is low on the largest and the smallest part of `where`, a line or plane, and the parts of all
    rows, or of those that `only` names.
    """
    known = finite_seeds(points)
    low = (known.loss < LOW).groupby([known.run, known.seed]).mean().groupby("run").median()
    parts = {label: round(100 * low[run]) for run, label in drawn_rows(table, only).items() if run in low}
    if not parts:
        return f"No {where} was measured", ""
    numbers = "; ".join(f"{label} {part} %" for label, part in parts.items())
    most, least = max(parts.values()), min(parts.values())
    if most == least:
        return f"The loss is below {LOW:g} nat on {most} % of the {where}, whatever the row", numbers
    widest, narrowest = ([label for label, part in parts.items() if part == end] for end in (most, least))
    keep = "keeps" if len(widest) == 1 else "keep"
    title = f"{joined(widest)} {keep} the loss below {LOW:g} nat on the largest part of the {where}, {most} %"
    return f"{title}; {joined(narrowest)} {'nowhere' if not least else f'on the smallest, {least} %'}", numbers
