"""The grammar of claims: chains of comparisons between sums of means over seeds.

check      = chain, { "and", chain }
chain      = sum, comparison, sum, { comparison, sum }
sum        = term, { ("+" | "-"), term }        with spaces around the sign
term       = a run's name | a number, [ "points" ]
comparison = "<" | "<=" | ">" | ">="

A run's name stands for its mean final test accuracy in percent.
"""

import re
from collections import Counter
from dataclasses import dataclass

from whysgd.errors import UserError

_COMPARISON = re.compile(r"\s(<=|>=|<|>)\s")


@dataclass(frozen=True)
class Comparison:
    """The claim Σ coefficient · mean(run) ≥ needed, or > needed if it is strict."""

    runs: dict[str, int]
    needed: float
    strict: bool


def parse_check(check: str) -> list[Comparison]:
    """The comparisons of a check, in order.

    Raises:
        UserError: the check does not follow the grammar, or a comparison names no run.
    """
    comparisons = []
    for chain in check.split(" and "):
        parts = _COMPARISON.split(f" {chain} ")
        if len(parts) < 3:
            raise UserError(f"check = {check!r}: has no comparison; allowed: <, <=, >, >=")
        for left, sign, right in zip(parts[:-1:2], parts[1::2], parts[2::2], strict=True):
            larger, smaller = (right, left) if sign in ("<", "<=") else (left, right)
            plus, above = _sum(larger, check)
            minus, below = _sum(smaller, check)
            plus.subtract(minus)
            runs = {run: count for run, count in plus.items() if count}
            if not runs:
                raise UserError(f"check = {check!r}: a comparison must name a run")
            comparisons.append(Comparison(runs, below - above, sign in ("<", ">")))
    return comparisons


def _sum(text: str, check: str) -> tuple[Counter, float]:
    """Coefficients of the runs and the constant of one sum."""
    words = text.split()
    runs, constant, sign, expected = Counter(), 0.0, 1, True
    for index, word in enumerate(words):
        number = _number(word)
        if word in ("+", "-") and not expected:
            sign, expected = (1 if word == "+" else -1), True
        elif word == "points" and index and _number(words[index - 1]) is not None:
            continue
        elif expected and number is not None:
            constant, expected = constant + sign * number, False
        elif expected and re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]*", word):
            runs[word] += sign
            expected = False
        else:
            raise UserError(f"check = {check!r}: not understood at {word!r}")
    if expected:
        raise UserError(f"check = {check!r}: a run or a number is missing")
    return runs, constant


def _number(word: str) -> float | None:
    return float(word) if re.fullmatch(r"\d+(\.\d+)?", word) else None
