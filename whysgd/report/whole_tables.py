"""Claims about every run of whole tables: `each(tables) < number` and `trend(table)`; see `whysgd.study.checks`."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from whysgd.report.intervals import mean
from whysgd.report.rank_correlation import SIGNIFICANT, holm, rank_correlation, smallest_p
from whysgd.study.checks import EachComparison, TrendComparison

# Of a table: for each row, by its label, the place of each run; see `whysgd.study.layout.planned_runs`.
Rows = Mapping[str, Mapping[str, float]]
NAMED = 4  # runs of a list, before it is cut


@dataclass(frozen=True)
class _Run:
    """How far a run is on the claimed side of the bound: its mean over seeds, and the ends of their intervals."""

    name: str
    ahead: float
    worst: float
    best: float


def compare_each(
    comparison: EachComparison,
    tables: Mapping[str, Rows],
    values: Mapping[str, list[float]],
    intervals: Mapping[str, list[tuple[float, float]]],
) -> tuple[str, str]:
    """Verdict and evidence on every run of some tables.

    A run is on the claimed side of the bound if its mean over seeds is, and the 95 % interval of each seed wholly; it
    is on the other side if its mean is, or at the bound, and each of these intervals wholly, of two seeds or more:
    among a hundred runs some seed's interval lies there by chance. The claim holds if all runs are on the claimed side,
    fails if one is on the other, and is undetermined otherwise, also if a seed has no number.

    Args:
        comparison: the claim.
        tables: the rows of each of its tables.
        values: of the metric over seeds, by run; all have some.
        intervals: (low, high) of each of these values; nan, or no entry, where there is none: then it is the value.
    """
    names = dict.fromkeys(run for name in comparison.tables for row in tables[name].values() for run in row)
    lost = [name for name in names if not all(map(math.isfinite, values[name]))]
    runs = [_run(name, values[name], intervals.get(name), comparison) for name in names if name not in lost]
    against = [run.name for run in runs if max(run.ahead, run.best) <= 0 and len(values[run.name]) > 1]
    unclear = [run.name for run in runs if min(run.ahead, run.worst) <= 0 and run.name not in against]
    evidence = f"{comparison.only(comparison.tables)}: {len(names)} runs"
    if runs:
        sign, bound = comparison.sign, comparison.bound
        last = min(runs, key=lambda run: run.ahead)
        word, end = ("smallest", "down") if sign > 0 else ("largest", "up")
        reach = f", its seeds' intervals {end} to {bound + sign * last.worst:.3g}" if last.worst < last.ahead else ""
        evidence += f", {word} {bound + sign * last.ahead:.3g} ({last.name}{reach})"
    for some, what in ((against, "are not"), (unclear, "are not clear"), (lost, "have a seed without a number")):
        evidence += f"; {len(some)} {what}: {_listed(some)}" if some else ""
    return "fails" if against else "undetermined" if unclear or lost else "holds", evidence


def _run(
    name: str, values: list[float], intervals: list[tuple[float, float]] | None, comparison: EachComparison
) -> _Run:
    ends = []
    for value, (low, high) in zip(values, intervals or [(math.nan, math.nan)] * len(values), strict=True):
        known = (value if math.isnan(low) else low, value if math.isnan(high) else high)
        ends.append(sorted(comparison.sign * (end - comparison.bound) for end in known))
    worst, best = min(low for low, _ in ends), max(high for _, high in ends)
    return _Run(name, comparison.sign * (mean(values) - comparison.bound), worst, best)


def compare_trend(
    comparison: TrendComparison, tables: Mapping[str, Rows], values: Mapping[str, list[float]]
) -> tuple[str, str]:
    """Verdict and evidence on the rows of a grid.

    In each row Spearman's rank correlation between the value of the columns' axis and the metric is taken over all
    seeds that have a number; its p is corrected for the number of rows by Holm's method. The claim holds if all rows
    are significant, and is undetermined otherwise: that nothing is seen does not say that nothing is there.

    Args:
        comparison: the claim.
        tables: the rows of its table.
        values: of the metric over seeds, by run; all have some.
    """
    rows, lost, total = [], 0, 0
    for row in tables[comparison.tables[0]].values():
        pairs = [(place, value) for run, place in row.items() for value in values[run]]
        finite = [(place, value) for place, value in pairs if math.isfinite(value)]
        total, lost = total + len(pairs), lost + len(pairs) - len(finite)
        places, numbers = [place for place, _ in finite], [value for _, value in finite]
        enough = len(finite) > 2 and len(tables[comparison.tables[0]]) * smallest_p(places) < SIGNIFICANT
        flat = len(set(places)) < 2 or len(set(numbers)) < 2
        rows.append((enough, *((0.0, 1.0) if flat or len(finite) < 3 else rank_correlation(places, numbers))))
    corrected = holm([p for _, _, p in rows])
    found = [(enough, rho, p < SIGNIFICANT) for (enough, rho, _), p in zip(rows, corrected, strict=True)]
    up, down = (sum(1 for _, rho, clear in found if clear and rho * sign > 0) for sign in (1, -1))
    few = sum(1 for enough, _, clear in found if not enough and not clear)
    counts = [f"+ in {up}", f"− in {down}", f"not significant in {len(rows) - up - down - few}"]
    counts += [f"too few values in {few}"] if few else []
    note = f"; {lost} of {total} values are no numbers and left out" if lost else ""
    sentence = (
        f"{comparison.only(comparison.tables)}, {len(rows)} rows: {', '.join(counts)} (Holm p < {SIGNIFICANT}){note}"
    )
    return "holds" if up + down == len(rows) else "undetermined", sentence


def _listed(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (", …" if len(names) > NAMED else "")
