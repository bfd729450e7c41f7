"""What figures say of rows beside their baseline."""

from whysgd.report.baselines import Difference, row_name
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


def names_of(found: list[Difference]) -> list[str]:
    """Return what the rows are called: by their columns, if all are compared within one row of the table."""
    rows = [one.row for one in found]
    within = len({row["row"] for row in rows}) == 1 and all(one.baseline["row"] == one.row["row"] for one in found)
    return [row["column"] if within and row["column"] else row_name(row) for row in rows]


def clearly_beside(found: list[Difference], name: str) -> str:
    """Return a sentence on the rows that are clearly more and less accurate than their baseline, or have one seed."""
    judged = [(called, one) for called, one in zip(names_of(found), found, strict=True) if one.half is not None]
    if found and not judged:
        return f"with one seed, no difference to {name} has an interval"
    parts = []
    for side, sign in (("more", 1), ("less", -1)):
        if rows := [called for called, one in judged if one.sign == sign]:
            parts.append(f"{joined(rows, len(judged))} {'is' if len(rows) == 1 else 'are'} clearly {side}")
    none = f"{judged[0][0]} is not" if len(judged) == 1 else "no row is"
    said = " and ".join(parts) or f"{none} clearly more or less"
    return f"{said} accurate than {name}{one_seed(found)}"


def one_seed(found: list[Difference]) -> str:
    """Return which differences rest on one seed and so are neither clear nor unclear, in parentheses; or nothing."""
    rows = [called for called, one in zip(names_of(found), found, strict=True) if one.half is None]
    return f" ({joined(rows)}: one seed)" if rows else ""
