"""How far rows of a table are from the row that they are compared with."""

from typing import NamedTuple

import pandas as pd

from whysgd.report.statistics import difference


class Difference(NamedTuple):
    """How far a row is from its baseline, in points.

    Attributes:
        row, baseline: as laid out.
        value, half: of the means, and half the width of its 95 % interval; None if one of the two has one seed.
        published: of the published means; None if one of them is not published.
    """

    row: dict
    baseline: dict
    value: float
    half: float | None
    published: float | None

    @property
    def sign(self) -> int:
        """1 or -1 if the whole interval is above or below 0, else 0."""
        clear = self.half is not None and abs(self.value) > self.half
        return 0 if not clear else 1 if self.value > 0 else -1


def baseline_of(table: dict, row: dict) -> dict | None:
    """Return the row that a row is compared with: where its gap starts, or else the first one made in its column."""
    alike = [other for other in table["rows"] if other["planned"] and other["metric"] == row["metric"]]
    if table["gap"]:
        alike = [other for other in alike if (other["row"], other["method"]) == (row["row"], table["gap"]["from"])]
    elif row["gap"]:
        alike = [{**row, "run": row["gap"]["from"], "label": row["gap"]["from"], "mean": None, "std": None}]
    return next((other for other in alike if table["gap"] or other["column"] == row["column"]), None)


def seeds_of_row(runs: pd.DataFrame, row: dict, metric: str | None = None) -> dict[int, float]:
    """Return the values of a row's metric, or another one, by seed."""
    own = runs[runs.run == row["run"]]
    values = dict(zip(own.seed, own[metric or row["metric"]].astype(float), strict=True))
    return {seed: value for seed, value in values.items() if value == value}


def difference_of(table: dict, row: dict, runs: pd.DataFrame) -> Difference | None:
    """Return the difference of a row to its baseline, as `difference` has it, if both were measured."""
    baseline = baseline_of(table, row) if row["planned"] else None
    if baseline is None or baseline["run"] == row["run"]:
        return None
    values = {one["run"]: seeds_of_row(runs, one) for one in (row, baseline)}
    if not all(values.values()):
        return None
    published = None if None in (row["mean"], baseline["mean"]) else row["mean"] - baseline["mean"]
    return Difference(row, baseline, *difference({row["run"]: 1.0, baseline["run"]: -1.0}, values), published)


def differences(table: dict, runs: pd.DataFrame) -> list[Difference]:
    """Return the difference of each row that has one."""
    return [one for row in table["rows"] if (one := difference_of(table, row, runs))]


def row_name(row: dict) -> str:
    """Return a row's label, with its column."""
    return f"{row['label']} ({row['column']})" if row["column"] else row["label"]
