"""What figures say of the rows of a table."""

import pandas as pd

from whysgd.report.baselines import Difference, row_name
from whysgd.report.statistics import SIGNIFICANT, rank_correlation
from whysgd.report.style import joined, signed


def told(one: Difference) -> str:
    """Return a difference and its interval as text."""
    if one.half is None:
        return f"{signed(one.value)} (one seed)"
    return f"{signed(one.value)} [{signed(one.value - one.half)}, {signed(one.value + one.half)}]"


def baseline_name(table: dict, found: list[Difference]) -> str:
    """Return what the rows are compared with, if it has one name, for a title."""
    names = {one.baseline["column"] if table["gap"] else one.baseline["label"] for one in found}
    return names.pop() if len(names) == 1 else "the baseline"


def clearly_beside(found: list[Difference], name: str) -> str:
    """Return a sentence on the rows that are clearly more and less accurate than their baseline, or have one seed."""
    judged = [one for one in found if one.half is not None]
    if found and not judged:
        return f"with one seed, no difference to {name} has an interval"
    parts = []
    for side, sign in (("more", 1), ("less", -1)):
        if rows := [row_name(one.row) for one in judged if one.sign == sign]:
            parts.append(f"{joined(rows, len(judged))} {'is' if len(rows) == 1 else 'are'} clearly {side}")
    none = f"{row_name(judged[0].row)} is not" if len(judged) == 1 else "no row is"
    said = " and ".join(parts) or f"{none} clearly more or less"
    return f"{said} accurate than {name}{one_seed(found)}"


def one_seed(found: list[Difference]) -> str:
    """Return which differences rest on one seed and so are neither clear nor unclear, in parentheses; or nothing."""
    rows = [row_name(one.row) for one in found if one.half is None]
    return f" ({joined(rows)}: one seed)" if rows else ""


def trend(values: pd.DataFrame, along: str, value: str = "value") -> tuple[str, str]:
    """Return whether a column rises, falls or shows no trend along another, and Spearman's ρ with its p as text."""
    known = values[[along, value]].dropna()
    if known[along].nunique() < 2 or known[value].nunique() < 2:
        return "shows no trend", "nothing varies"
    rho, p = rank_correlation(known[along], known[value])
    word = "shows no trend" if p > SIGNIFICANT else "rises" if rho > 0 else "falls"
    return word, f"Spearman's ρ = {signed(rho, 2)}, p {'< 0.001' if p < 0.001 else f'= {p:.2g}'}"


def made_rows(table: dict) -> dict[str, dict]:
    """Return the first row of each run that is made."""
    made: dict[str, dict] = {}
    for row in table["rows"]:
        if row["planned"]:
            made.setdefault(row["run"], row)
    return made
