"""The grammar of claims: comparisons of means over seeds, shares of gaps, signs of rank correlations; whole tables.

check      = part, { "and", part }
part       = sum, comparison, sum, { comparison, sum }
           | "gap(", a run's name, ")", comparison, a number
           | "spearman(", a run's name, ",", a run's name, { ",", a run's name }, ")", ( "<" | ">" ), "0"
           | "each(", a table's name, { ",", a table's name }, ")", ( "<" | ">" ), a number
           | "trend(", a table's name, ")"
sum        = term, { ("+" | "-"), term }        with spaces around the sign
term       = a run's name | a number, [ "points" ]
comparison = "<" | "<=" | ">" | ">="

A run's name stands for the mean over its seeds of the claim's metric, test accuracies in percent. gap(run) is the part
of the difference between two runs, those of its table row's `gap`, that the run recovers: 0 is `from`, 1 is `to`.
spearman(runs) is Spearman's rank correlation, over all seeds of these runs, between a run's place in the list and the
metric. each(tables) compares every run of these tables with the number. trend(table) claims that in every row of a grid
the metric depends on the axis of its columns: that Spearman's rank correlation of the two, over all seeds, is not 0, of
whichever sign.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from whysgd.errors import UserError
from whysgd.measures.catalog import MEASURES, QUANTITIES

# What a name can stand for: an accuracy of the run's own log, in percent; see `whysgd.report.early`; or what a
# measure says of the trained network.
ACCURACIES = ("test_accuracy", "best_test_accuracy")
EARLY = "early_norm_ratio"
MEASURED = tuple(name for name in QUANTITIES if name not in ACCURACIES)
METRICS = (*ACCURACIES, EARLY, *MEASURED)
_NAME = r"[A-Za-z][A-Za-z0-9_.-]*"
_COMPARISON = re.compile(r"\s(<=|>=|<|>)\s")
_GAP = re.compile(rf"gap\(({_NAME})\)\s+(<=|>=|<|>)\s+(\d+(?:\.\d+)?)")
_SPEARMAN = re.compile(rf"spearman\(\s*({_NAME}(?:\s*,\s*{_NAME})+)\s*\)\s+([<>])\s+0")
_EACH = re.compile(rf"each\(\s*({_NAME}(?:\s*,\s*{_NAME})*)\s*\)\s+([<>])\s+(-?\d+(?:\.\d+)?)")
_TREND = re.compile(rf"trend\(\s*({_NAME})\s*\)")


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


@dataclass(frozen=True)
class RankComparison:
    """The claim sign · Spearman's ρ > 0, ρ between the place of a run in `runs` and the metric; sign is 1 or −1."""

    runs: tuple[str, ...]
    sign: int


@dataclass(frozen=True)
class EachComparison:
    """The claim sign · (metric − bound) > 0 for every run of some tables; sign is 1 or −1."""

    tables: tuple[str, ...]
    bound: float
    sign: int
    runs = ()

    def only(self, tables: Iterable[str]) -> str:
        """The check of some of its tables."""
        return f"each({', '.join(tables)}) {'>' if self.sign > 0 else '<'} {self.bound:g}"


@dataclass(frozen=True)
class TrendComparison:
    """The claim that in every row of a table's grid the metric rises or falls along the axis of its columns."""

    tables: tuple[str]
    runs = ()

    def only(self, tables: Iterable[str]) -> str:
        """The check of its table."""
        return f"trend({', '.join(tables)})"


OfRuns = Comparison | GapComparison | RankComparison
OfTables = EachComparison | TrendComparison


def needed_measures(metrics: Iterable[str]) -> set[str]:
    """The measures, by their names in `MEASURES`, that have these metrics, unless the run's own log has them."""
    wanted = {metric for metric in metrics if metric in MEASURED}
    return {measure for measure, quantities in MEASURES.items() if wanted & set(quantities)}


def parse_check(check: str) -> list[OfRuns | OfTables]:
    """The comparisons of a check, in order.

    Raises:
        UserError: the check does not follow the grammar, or a comparison names no run.
    """
    return [comparison for part in check.split(" and ") for comparison in _part(part, check)]


def _part(part: str, check: str) -> list[OfRuns | OfTables]:
    if part.strip().startswith("gap("):
        return [_gap(part, check)]
    if part.strip().startswith("spearman("):
        return [_spearman(part, check)]
    if part.strip().startswith(("each(", "trend(")):
        return [_of_tables(part, check)]
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


def _spearman(part: str, check: str) -> RankComparison:
    match = _SPEARMAN.fullmatch(part.strip())
    if match is None:
        allowed = "allowed: spearman(a run, another, …) < 0 or > 0"
        raise UserError(f"check = {check!r}: not understood at {part.strip()!r}; {allowed}")
    runs = tuple(re.split(r"\s*,\s*", match[1]))
    if len(set(runs)) < len(runs):
        raise UserError(f"check = {check!r}: spearman names a run twice")
    return RankComparison(runs, 1 if match[2] == ">" else -1)


def _of_tables(part: str, check: str) -> OfTables:
    each, trend = _EACH.fullmatch(part.strip()), _TREND.fullmatch(part.strip())
    if not (each or trend):
        allowed = "allowed: each(a table, …) < or > a number, trend(a table)"
        raise UserError(f"check = {check!r}: not understood at {part.strip()!r}; {allowed}")
    if trend:
        return TrendComparison((trend[1],))
    tables = tuple(re.split(r"\s*,\s*", each[1]))
    if len(set(tables)) < len(tables):
        raise UserError(f"check = {check!r}: each names a table twice")
    return EachComparison(tables, float(each[3]), 1 if each[2] == ">" else -1)


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
