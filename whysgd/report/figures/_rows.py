"""The rows of a table over their seeds, and how far each is from the row that it is compared with."""

from typing import NamedTuple

import pandas as pd

from whysgd.report.statistics import SIGNIFICANT, difference, rank_correlation
from whysgd.report.style import joined, signed


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

    @property
    def told(self) -> str:
        """The difference and its interval as text."""
        if self.half is None:
            return f"{signed(self.value)} (one seed)"
        return f"{signed(self.value)} [{signed(self.value - self.half)}, {signed(self.value + self.half)}]"


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


def differences(table: dict, runs: pd.DataFrame) -> list[Difference]:
    """Return the difference of each row that was measured, and so was its baseline, as `difference` has it."""
    found = []
    for row in table["rows"]:
        baseline = baseline_of(table, row) if row["planned"] else None
        if baseline is None or baseline["run"] == row["run"]:
            continue
        values = {one["run"]: seeds_of_row(runs, one) for one in (row, baseline)}
        if all(values.values()):
            known = None not in (row["mean"], baseline["mean"])
            published = row["mean"] - baseline["mean"] if known else None
            found.append(
                Difference(row, baseline, *difference({row["run"]: 1.0, baseline["run"]: -1.0}, values), published)
            )
    return found


def baseline_name(table: dict, found: list[Difference]) -> str:
    """Return what the rows are compared with, if it has one name, for a title."""
    names = {one.baseline["column"] if table["gap"] else one.baseline["label"] for one in found}
    return names.pop() if len(names) == 1 else "the baseline"


def clearly_beside(found: list[Difference], name: str) -> str:
    """Return a sentence on the rows that are clearly more and less accurate than their baseline, or have one seed."""
    judged = [one for one in found if one.half is not None]
    if found and not judged:
        return f"with one seed, no difference to {name} has an interval"
    more, less = ([row_name(one.row) for one in judged if one.sign == sign] for sign in (1, -1))
    said = sides(more, less, len(judged), "clearly ") or "no row is clearly more or less"
    return f"{said} accurate than {name}{one_seed(found)}"


def sides(more: list[str], less: list[str], of: int, how: str = "") -> str:
    """Return which of so many rows are more, and which are less, than another one; nothing if none is."""
    return " and ".join(f"{joined(rows, of)} {'is' if len(rows) == 1 else 'are'} {how}{side}"
                        for rows, side in ((more, "more"), (less, "less")) if rows)  # fmt: skip


def one_seed(found: list[Difference]) -> str:
    """Return which differences rest on one seed and so are neither clear nor unclear, in parentheses; or nothing."""
    rows = [row_name(one.row) for one in found if one.half is None]
    return f" ({joined(rows)}: one seed)" if rows else ""


def row_name(row: dict) -> str:
    """Return a row's label, with its column."""
    return f"{row['label']} ({row['column']})" if row["column"] else row["label"]


def trend(values: pd.DataFrame, along: str, value: str = "value") -> tuple[str, str]:
    """Return whether a column rises, falls or shows no trend along another, and Spearman's ρ with its p as text."""
    known = values[[along, value]].dropna()
    if known[along].nunique() < 2 or known[value].nunique() < 2:
        return "shows no trend", "nothing varies"
    rho, p = rank_correlation(known[along], known[value])
    word = "shows no trend" if p > SIGNIFICANT else "rises" if rho > 0 else "falls"
    return word, f"ρ = {signed(rho, 2)}, p {'< 0.001' if p < 0.001 else f'= {p:.2g}'}"


def made_rows(table: dict) -> dict[str, dict]:
    """Return the first row of each run that is made."""
    rows = [row for row in table["rows"] if row["planned"]]
    return {row["run"]: next(one for one in rows if one["run"] == row["run"]) for row in rows}
