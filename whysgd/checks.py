"""The grammar of claims: chains of comparisons between sums of means over seeds, and of gaps with a share.

check      = part, { "and", part }
part       = sum, comparison, sum, { comparison, sum }
           | "gap(", a run's name, ")", comparison, a number
sum        = term, { ("+" | "-"), term }        with spaces around the sign
term       = a run's name | a number, [ "points" ]
comparison = "<" | "<=" | ">" | ">="

A run's name stands for the mean over its seeds of the claim's metric, test accuracies in percent. gap(run) is the part
of the difference between two runs, those of its table row's `gap`, that the run recovers: 0 is `from`, 1 is `to`.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from whysgd.errors import UserError

# What a name stands for if it is no accuracy, see `whysgd.reporting.early`.
EARLY = "early_norm_ratio"
_NAME = r"[A-Za-z][A-Za-z0-9_.-]*"
_COMPARISON = re.compile(r"\s(<=|>=|<|>)\s")
_GAP = re.compile(rf"gap\(({_NAME})\)\s+(<=|>=|<|>)\s+(\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class Comparison:
    """The claim Σ coefficient · mean(run) ≥ needed, or > needed if it is strict."""

    runs: dict[str, float]
    needed: float
    strict: bool


@dataclass(frozen=True)
class GapComparison:
    """The claim sign · (gap(run) − share) ≥ 0, or > 0 if it is strict; sign is 1 or −1."""

    run: str
    share: float
    sign: int
    strict: bool

    @property
    def runs(self) -> tuple[str]:
        return (self.run,)

    def comparison(self, gap: Mapping[str, str]) -> Comparison:
        """The same without a fraction: sign · (run − from − share · (to − from)) ≥ 0, for to > from.

        Args:
            gap: the runs {from, to} that `run` lies between.
        """
        weights = {self.run: 1.0, gap["from"]: self.share - 1.0, gap["to"]: -self.share}
        return Comparison({run: self.sign * weight for run, weight in weights.items() if weight}, 0.0, self.strict)


def parse_check(check: str) -> list[Comparison | GapComparison]:
    """The comparisons of a check, in order.

    Raises:
        UserError: the check does not follow the grammar, or a comparison names no run.
    """
    return [comparison for part in check.split(" and ") for comparison in _part(part, check)]


def _part(part: str, check: str) -> list[Comparison | GapComparison]:
    if part.strip().startswith("gap("):
        return [_gap(part, check)]
    parts = _COMPARISON.split(f" {part} ")
    if len(parts) < 3:
        raise UserError(f"check = {check!r}: has no comparison; allowed: <, <=, >, >=")
    comparisons = []
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


def _gap(part: str, check: str) -> GapComparison:
    match = _GAP.fullmatch(part.strip())
    if match is None:
        raise UserError(f"check = {check!r}: not understood at {part.strip()!r}; allowed: gap(a run) >= a number")
    run, sign, share = match.groups()
    return GapComparison(run, float(share), 1 if sign in (">", ">=") else -1, sign in ("<", ">"))


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
        elif expected and re.fullmatch(_NAME, word):
            runs[word] += sign
            expected = False
        else:
            raise UserError(f"check = {check!r}: not understood at {word!r}")
    if expected:
        raise UserError(f"check = {check!r}: a run or a number is missing")
    return runs, constant


def _number(word: str) -> float | None:
    return float(word) if re.fullmatch(r"\d+(\.\d+)?", word) else None
