"""What was measured over the grid of a table, and how its axes are named."""

import pandas as pd

from whysgd.data.catalog import BUILT_IN
from whysgd.errors import UserError
from whysgd.report.measures import rounded, titled
from whysgd.report.style import SMALL

# A level worth a line, by quantity.
LEVELS = dict.fromkeys(("tail_index", "tail_index_active"), (2.0, "Gaussian: 2"))


def grid_panels(table: dict, measures: pd.DataFrame) -> tuple[pd.DataFrame, list, str, str]:
    """Return what was measured of a grid, its panels, the axis of their lines, and that of their columns.

    The frame has a line for each seed of each cell, with its run, the axes, and the `value` of the table's metric.
    There is a panel for each combination of the rows' axes but the last one: a title, and its part of the frame.
    """
    *outer, inner = table["grid"]["rows"]
    across = next(iter(table["grid"]["columns"]))
    cells = pd.DataFrame([{"run": row["run"], "quantity": row["metric"], **row["axes"]}
                          for row in table["rows"] if row["planned"]])  # fmt: skip
    frame = cells.merge(measures[["run", "quantity", "seed", "value"]].dropna(subset="value"), on=["run", "quantity"])
    if frame.empty:
        raise UserError(f"{table['title']}: nothing was measured of the table's grid, so there is nothing to draw")
    groups = frame.groupby(outer, sort=False) if outer else [((), frame)]
    return frame, [(", ".join(map(named, key)), part) for key, part in groups], inner, across


def extremes(table: dict, frame: pd.DataFrame) -> tuple[str, str]:
    """Return between which cells' means a quantity lies, as a title, and how many networks have one."""
    means = frame.groupby("run").value.mean()
    cells = {row["run"]: ", ".join(f"{axis} {named(value)}" for axis, value in row["axes"].items())
             for row in table["rows"]}  # fmt: skip
    low, high = (f"{rounded(means[run])} ({cells[run]})" for run in (means.idxmin(), means.idxmax()))
    return f"{titled(table['metric']).capitalize()} ranges from {low} to {high}", f"{len(means)} networks"


def axis_values(table: dict, axis: str) -> list:
    """Return the values of an axis of a table's grid that are run, in order."""
    return list(dict.fromkeys(row["axes"][axis] for row in table["rows"] if row["planned"]))


def named(value) -> str:
    """Return a value of an axis for readers."""
    if isinstance(value, str):
        return BUILT_IN[value]["label"] if value in BUILT_IN else value.replace("_", " ")
    return f"{value:g}"


def mark_level(axis, quantity: str) -> None:
    """Draw the level that a quantity is compared with as a dashed line, if there is one."""
    if quantity in LEVELS:
        value, name = LEVELS[quantity]
        axis.axhline(value, color="black", lw=1, ls="--", zorder=1)
        axis.annotate(
            name, (1, value), xycoords=("axes fraction", "data"), xytext=(-2, 2), textcoords="offset points",
            ha="right", va="bottom", fontsize=SMALL,
        )  # fmt: skip
