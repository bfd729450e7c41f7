"""The papers' claims, parsed once into objects: what each compares, which runs that needs, what a scale leaves out.

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
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from whysgd.errors import UserError
from whysgd.measures.catalog import MEASURES, QUANTITIES
from whysgd.study.validation import check_known

# What a name can stand for: an accuracy of the run's own log, in percent; see `whysgd.report.claims`; or what a
# measure says of the trained network.
ACCURACIES = ("test_accuracy", "best_test_accuracy")
EARLY = "early_norm_ratio"
MEASURED = tuple(name for name in QUANTITIES if name not in ACCURACIES)
METRICS = (*ACCURACIES, EARLY, *MEASURED)
HOLDS, FAILS, UNDETERMINED = "holds", "fails", "undetermined"
# A table's runs: for each row, each run with its place along the columns.
Rows = tuple[tuple[tuple[str, float], ...], ...]
_NAME = r"[A-Za-z][A-Za-z0-9_.-]*"
_COMPARISON = re.compile(r"\s(<=|>=|<|>)\s")
_TERM = rf"(?:{_NAME}|\d+(?:\.\d+)?(?:\s+points)?)"
_SUM = re.compile(rf"{_TERM}(?:\s+[+-]\s+{_TERM})*")
_NAMES = rf"{_NAME}(?:\s*,\s*{_NAME})*"
# How each call may be written, with groups of its names, sign and number; and what is said of another one.
_CALLS = {
    "gap": (rf"gap\(\s*({_NAME})\s*\)\s+([<>]=?)\s+(\d+(?:\.\d+)?)", "gap(a run) >= a number"),
    "spearman": (
        rf"spearman\(\s*({_NAME}\s*,\s*{_NAMES})\s*\)\s+([<>])\s+(0(?:\.0+)?)",
        "spearman(a run, another, …) < 0 or > 0",
    ),
    "each": (
        rf"each\(\s*({_NAMES})\s*\)\s+([<>])\s+(-?\d+(?:\.\d+)?)", "each(a table, …) < or > a number",
    ),
    "trend": (rf"trend\(\s*({_NAME})\s*\)()()", "trend(a table)"),
}  # fmt: skip


@dataclass(frozen=True)
class Difference:
    """The claim Σ weight · mean(run) ≥ needed, or > needed if it is strict."""

    weights: tuple[tuple[str, float], ...]
    needed: float
    strict: bool
    kind = "difference"

    @property
    def runs(self) -> tuple[str, ...]:
        """The runs that the claim names, whose values decide."""
        return tuple(run for run, _ in self.weights)

    needs = runs


@dataclass(frozen=True)
class GapShare:
    """The claim sign · (gap(run) − share) ≥ 0, or > 0 if it is strict, for the only one of `runs`.

    `needs` are the run, and the start and the end of the gap.
    """

    runs: tuple[str]
    share: float
    sign: int
    strict: bool
    needs: tuple[str, str, str]
    kind = "gap"

    @property
    def linear(self) -> Difference:
        """The same claim without a fraction: sign · (run − start − share · (end − start)) ≥ 0, for end > start."""
        weights = zip(self.needs, (1.0, self.share - 1.0, -self.share), strict=True)
        return Difference(tuple((run, self.sign * weight) for run, weight in weights if weight), 0.0, self.strict)


@dataclass(frozen=True)
class Ranking:
    """The claim sign · Spearman's ρ > 0, ρ between the place of a run in `runs` and the metric."""

    runs: tuple[str, ...]
    sign: int
    kind = "spearman"

    @property
    def needs(self) -> tuple[str, ...]:
        """The runs whose values decide."""
        return self.runs


@dataclass(frozen=True)
class OfTables:
    """A claim about every run of some tables; `rows` are the runs that a scale makes, row by row.

    Each: sign · (metric − bound) > 0. Trend: in every row the metric rises or falls along the axis of the columns.
    """

    kind: Literal["each", "trend"]
    tables: tuple[str, ...]
    bound: float = 0.0
    sign: int = 1
    rows: Rows = ()
    runs = ()

    @property
    def needs(self) -> tuple[str, ...]:
        """The runs whose values decide."""
        return tuple(dict.fromkeys(run for row in self.rows for run, _ in row))

    def __str__(self) -> str:
        bound = f" {'>' if self.sign > 0 else '<'} {self.bound:g}" if self.kind == "each" else ""
        return f"{self.kind}({', '.join(self.tables)}){bound}"


Comparison = Difference | GapShare | Ranking | OfTables


@dataclass(frozen=True)
class Part:
    """What stands between two `and`: its text, its comparisons, and whether the scale has what they need."""

    text: str
    comparisons: tuple[Comparison, ...]
    judged: bool = True


@dataclass(frozen=True)
class Claim:
    """A paper's claim, of which all parts must hold; `references`, of `EARLY` alone, is the reference of each run."""

    id: str
    claim: str
    metric: str
    check: str
    parts: tuple[Part, ...]
    references: tuple[tuple[str, str], ...] = ()

    @property
    def runs(self) -> tuple[str, ...]:
        """The runs that the claim names."""
        named = (run for part in self.parts for comparison in part.comparisons for run in comparison.runs)
        return tuple(dict.fromkeys(named))

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        """What is judged."""
        return tuple(comparison for part in self.parts if part.judged for comparison in part.comparisons)

    @property
    def left_out(self) -> tuple[str, ...]:
        """The texts of the parts that are not judged."""
        return tuple(part.text for part in self.parts if not part.judged)

    def at_scale(self, planned: Collection[str], tables: Mapping[str, Rows]) -> "Claim | None":
        """Return the claim with the parts whose runs are all `planned` marked as judged; None if there is no such part.

        A part about whole tables is judged on those of them that have planned runs, as `planned_rows` says.
        """
        parts, reference = [], dict(self.references)
        for part in self.parts:
            first = part.comparisons[0]
            if isinstance(first, OfTables):
                there = tuple(name for name in first.tables if tables.get(name))
                gone = tuple(name for name in first.tables if name not in there)
                rows = tuple(row for name in there for row in tables[name])
                halves = ((replace(first, tables=there, rows=rows), True), (replace(first, tables=gone), False))
                parts += [Part(str(half), (half,), judged) for half, judged in halves if half.tables]
            else:
                needed = {run for comparison in part.comparisons for run in comparison.needs}
                needed |= {reference[run] for run in needed if run in reference}
                parts.append(replace(part, judged=needed <= set(planned)))
        return replace(self, parts=tuple(parts)) if any(part.judged for part in parts) else None


def needed_measures(metrics: Iterable[str]) -> set[str]:
    """Return the measures, by their names in `MEASURES`, that have these metrics, unless the run's own log has them."""
    wanted = {metric for metric in metrics if metric in MEASURED}
    return {measure for measure, quantities in MEASURES.items() if wanted & set(quantities)}


def planned_rows(table: Mapping) -> Rows:
    """Return the planned runs of each row of a laid-out table that has any.

    Their places are the values of the columns' axis in a table with a grid, the numbers of the cells in others.
    """
    across = next(iter(table["grid"]["columns"])) if table["grid"] else None
    rows: dict[str, dict] = {}
    for row in table["rows"]:
        if row["planned"]:
            mine = rows.setdefault(row["label"], {})
            mine[row["run"]] = row["axes"][across] if across else len(mine)
    return tuple(tuple(row.items()) for row in rows.values())


def parse_claims(paper: Mapping, file: str) -> list[Claim]:
    """Parse the claims of a paper's file, whose runs, gaps and tables are as `whysgd.study.layout.lay_out` has them.

    Raises:
        UserError: a check does not follow the grammar, or names what cannot be compared; the line has file and key.
    """
    gaps, parsed = paper["gaps"], []
    for index, claim in enumerate(paper["claims"]):
        if claim["id"] in [one.id for one in parsed]:
            raise UserError(f"{file}: claims[{index}].id = {claim['id']!r}: another claim has it")
        try:
            parts = tuple(_part(text.strip(), gaps) for text in claim["check"].split(" and "))
            for comparison in (comparison for part in parts for comparison in part.comparisons):
                _check(comparison, claim["metric"], paper)
        except UserError as error:
            raise UserError(f"{file}: claims[{index}].check = {claim['check']!r}: {error}") from None
        made = Claim(*(claim[key] for key in ("id", "claim", "metric", "check")), parts)
        references = tuple((run, gaps[run]["to"]) for run in made.runs) if made.metric == EARLY else ()
        parsed.append(replace(made, references=references))
    return parsed


def _check(comparison: Comparison, metric: str, paper: Mapping) -> None:
    """Refuse a comparison of what there is not, or of what has no such metric."""
    runs, gaps, tables = paper["runs"], paper["gaps"], paper["tables"]
    for run in comparison.runs:
        check_known(run, runs, f"no run {run!r}")
        if metric == EARLY and run not in gaps:
            raise UserError(f"{EARLY} needs a run with a gap; allowed: {', '.join(gaps) or 'none, no table has a gap'}")
    if isinstance(comparison, GapShare):
        inner = [run for run in gaps if run not in gaps[run].values()]
        if comparison.runs[0] not in inner:
            raise UserError(f"gap({comparison.runs[0]}): the run has no gap; allowed: {', '.join(inner) or 'none'}")
        if metric not in ACCURACIES:
            raise UserError(f"gap(...) is of an accuracy, not of {metric}")
    if not isinstance(comparison, OfTables):
        return
    for name in comparison.tables:
        check_known(name, tables, f"no table {name!r}")
        grid = tables[name]["grid"]
        values = next(iter(grid["columns"].values())) if grid else []
        if comparison.kind == "trend" and (not values or any(isinstance(value, str) for value in values)):
            raise UserError(f"trend({name}): the table must have a grid with numbers along its columns")
    if metric == EARLY:
        raise UserError(f"each(...) and trend(...) are not of {EARLY}")


def _part(text: str, gaps: Mapping[str, Mapping]) -> Part:
    if text.partition("(")[0] in _CALLS:
        return Part(text, (_call(text, gaps),))
    parts = _COMPARISON.split(f" {text} ")
    if len(parts) < 3:
        raise UserError("has no comparison; allowed: <, <=, >, >=")
    comparisons = []
    for left, sign, right in zip(parts[:-1:2], parts[1::2], parts[2::2], strict=True):
        larger, smaller = (right, left) if sign in ("<", "<=") else (left, right)
        (plus, above), (minus, below) = _sum(larger), _sum(smaller)
        plus.subtract(minus)
        weights = tuple((run, float(count)) for run, count in plus.items() if count)
        if not weights:
            raise UserError("a comparison must name a run")
        comparisons.append(Difference(weights, below - above, sign in ("<", ">")))
    return Part(text, tuple(comparisons))


def _call(text: str, gaps: Mapping[str, Mapping]) -> Comparison:
    kind = text.partition("(")[0]
    pattern, allowed = _CALLS[kind]
    if (match := re.fullmatch(pattern, text)) is None:
        raise UserError(f"not understood at {text!r}; allowed: {allowed}")
    names, sign, value = tuple(re.split(r"\s*,\s*", match[1])), match[2], float(match[3] or 0)
    if len(set(names)) < len(names):
        raise UserError(f"{kind} names {'a run' if kind == 'spearman' else 'a table'} twice")
    side = -1 if sign in ("<", "<=") else 1
    if kind == "gap":
        ends = (gaps.get(names[0], {}).get(key, "") for key in ("from", "to"))
        return GapShare(names, value, side, sign in ("<", ">"), (*names, *ends))
    return Ranking(names, side) if kind == "spearman" else OfTables(kind, names, value, side)


def _sum(text: str) -> tuple[Counter, float]:
    """Return the coefficients of the runs and the constant of one sum."""
    if not (text := text.strip()):
        raise UserError("a run or a number is missing")
    if _SUM.fullmatch(text) is None:
        raise UserError(f"not understood at {text!r}; allowed: runs and numbers, with + or - between them")
    runs, constant = Counter(), 0.0
    for sign, word in re.findall(r"(?<!\S)([+-])\s+(\S+)", f"+ {text}"):
        weight = 1 if sign == "+" else -1
        if word[0].isdigit():
            constant += weight * float(word)
        else:
            runs[word] += weight
    return runs, constant
