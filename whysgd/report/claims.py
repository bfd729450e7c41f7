"""The papers' claims on measured runs: holds, fails or undetermined."""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from whysgd.measures.catalog import QUANTITIES
from whysgd.report.early import early_norm_ratios
from whysgd.report.intervals import recovered, welch
from whysgd.report.rank_correlation import SIGNIFICANT, rank_correlation
from whysgd.report.whole_tables import NAMED, Rows, compare_each, compare_trend
from whysgd.study.checks import (
    EARLY,
    MEASURED,
    Comparison,
    EachComparison,
    GapComparison,
    OfRuns,
    OfTables,
    RankComparison,
    TrendComparison,
    parse_check,
)

COLUMNS = ["id", "claim", "metric", "check", "verdict", "evidence"]
# What a run's name stands for.
MEANINGS = {
    "test_accuracy": "points of test accuracy at the last step",
    "best_test_accuracy": "points of test accuracy at the selected step",
    EARLY: (
        "the mean |log ratio| of the average micro-batch gradient norm to that of small-batch SGD, over the first tenth"
        " of training"
    ),
    **{
        name: f"{QUANTITIES[name].label}{f' [{QUANTITIES[name].unit}]' if QUANTITIES[name].unit else ''}"
        " of the trained network"
        for name in MEASURED
    },
}


def evaluate_check(
    check: str,
    values: dict[str, list[float]],
    gaps: Mapping | None = None,
    form: str = "+.2f",
    missing_word: str = "not run",
    tables: Mapping[str, Rows] | None = None,
    intervals: Mapping[str, list[tuple[float, float]]] | None = None,
) -> dict:
    """Verdict of one check.

    Each comparison claims that a difference d of means is at least a threshold. It holds if the whole 95 % interval
    of d (`whysgd.report.intervals.welch`) is at or above the threshold, fails if it is below, and is undetermined if
    the interval straddles it or a run has fewer than two seeds. gap(run) ≥ c is run − from − c·(to − from) ≥ 0, and
    undetermined unless to − from is above 0 with its whole interval. spearman(runs) < 0 or > 0 holds if Spearman's rank
    correlation has the claimed sign with p < 0.05 (two-sided, by permutations), fails if it has the other one
    with p < 0.05, and is undetermined otherwise. Of whole tables `whysgd.report.whole_tables` says it. A check holds
    if all its comparisons hold and fails if one fails. If a run is missing, the evidence is the list of those that are.

    Args:
        check: see `whysgd.study.checks`.
        values: of the claim's metric over seeds, by run.
        gaps: the {from, to} of the runs whose gap it names.
        form: of the evidence's numbers.
        missing_word: what a run without values was not.
        tables: the rows of the tables that it is about.
        intervals: 95 % intervals (low, high) of the values, by run, if they have any of their own.

    Returns:
        `verdict` and `evidence`, a sentence with each difference and its interval.
    """
    comparisons, verdicts, evidence = parse_check(check), [], []
    needed = [run for comparison in comparisons for run in _needed(comparison, gaps, tables)]
    missing = dict.fromkeys(run for run in needed if not values.get(run))
    if missing:
        whole = any(isinstance(comparison, OfTables) for comparison in comparisons)
        some = [*list(missing)[:NAMED], f"… ({len(missing)} runs)"] if whole and len(missing) > NAMED else missing
        return {"verdict": "undetermined", "evidence": f"{missing_word}: {', '.join(some)}"}
    for comparison in comparisons:
        if isinstance(comparison, GapComparison):
            verdict, sentence = _compare_gap(comparison, values, gaps[comparison.run])
        elif isinstance(comparison, RankComparison):
            verdict, sentence = _compare_ranks(comparison, values)
        elif isinstance(comparison, EachComparison):
            verdict, sentence = compare_each(comparison, tables, values, intervals or {})
        elif isinstance(comparison, TrendComparison):
            verdict, sentence = compare_trend(comparison, tables, values)
        else:
            verdict, sentence = _compare(comparison, values, form)
        verdicts.append(verdict)
        evidence.append(sentence)
    verdict = "fails" if "fails" in verdicts else "undetermined" if "undetermined" in verdicts else "holds"
    return {"verdict": verdict, "evidence": "; ".join(evidence)}


def _needed(comparison: OfRuns | OfTables, gaps: Mapping | None, tables: Mapping[str, Rows] | None) -> list[str]:
    if isinstance(comparison, OfTables):
        return [run for name in comparison.tables for row in tables[name].values() for run in row]
    ends = gaps[comparison.run].values() if isinstance(comparison, GapComparison) else ()
    return [*comparison.runs, *ends]


def _lost(runs: Iterable[str], values: dict) -> str | None:
    """Which runs have a value that is no number, as a sentence; None if there is none."""
    lost = [run for run in runs if not np.isfinite(values[run]).all()]
    why = "has no such number for one of its seeds: it diverged, or the number is not defined"
    return f"{', '.join(lost)}: {why}" if lost else None


def _compare(comparison: Comparison, values: dict, form: str) -> tuple[str, str]:
    runs, needed = comparison.runs, comparison.needed
    if lost := _lost(runs, values):
        return "undetermined", lost
    name = " ".join(f"{'+' if c > 0 else '-'} {run}" for run, c in runs.items()).removeprefix("+ ")
    claimed = f"claimed {'>' if comparison.strict else '≥'} {needed:g}"
    difference, half = welch(runs, values)
    interval = _interval(difference, half, form)
    return _verdict(comparison, difference, half), f"{name} = {difference:{form}}{interval}, {claimed}{_why(half)}"


def _compare_gap(comparison: GapComparison, values: dict, ends: Mapping[str, str]) -> tuple[str, str]:
    """The evidence has the gap in percent, and how far the run is on the claimed side, in points, with its interval."""
    gap = recovered(comparison.run, ends, values)
    linear = comparison.comparison(ends)
    difference, half = welch(linear.runs, values)
    # Adding 0 makes -0 a 0.
    percent = "undefined" if gap.value is None else f"{round(100 * gap.value) + 0} %"
    claimed = f"{100 * comparison.share:g} %"
    side = "over" if comparison.sign > 0 else "under"
    name = f"gap({comparison.run}) = {percent}"
    if half is not None and not gap.resolved:
        total, width = welch({ends["to"]: 1.0, ends["from"]: -1.0}, values)
        negative = width is not None and total + width < 0
        sign = "is below 0" if negative else "is not clearly above 0"
        small = (
            f"{ends['to']} - {ends['from']} = {total:+.2f}{_interval(total, width)} {sign}: there is no gap to recover"
        )
        return "undetermined", f"{name}, but {small}"
    interval = _interval(difference, half)
    sentence = f"{name}, claimed {claimed}; points {side} that: {difference:+.2f}{interval}{_why(half)}"
    return _verdict(linear, difference, half), sentence


def _compare_ranks(comparison: RankComparison, values: dict) -> tuple[str, str]:
    if lost := _lost(comparison.runs, values):
        return "undetermined", lost
    pairs = [(place, value) for place, run in enumerate(comparison.runs) for value in values[run]]
    places, numbers = zip(*pairs, strict=True)
    name, claimed = f"spearman({', '.join(comparison.runs)})", f"claimed {'>' if comparison.sign > 0 else '<'} 0"
    if len(pairs) < 3 or len(set(numbers)) == 1:
        why = "all values are the same" if len(pairs) > 2 else "too few for a correlation"
        return "undetermined", f"{name}: n = {len(pairs)}, {why}; {claimed}"
    rho, p = rank_correlation(places, numbers)
    verdict = "undetermined" if not p < SIGNIFICANT else "holds" if rho * comparison.sign > 0 else "fails"
    return verdict, f"{name} = {rho:+.2f}, p = {p:.2g}, n = {len(pairs)}, {claimed}"


def _verdict(comparison: Comparison, difference: float, half: float | None) -> str:
    if half is None:
        return "undetermined"
    low, high, needed = difference - half, difference + half, comparison.needed
    holds, fails = (low > needed, high <= needed) if comparison.strict else (low >= needed, high < needed)
    return "holds" if holds else "fails" if fails else "undetermined"


def _interval(difference: float, half: float | None, form: str = "+.2f") -> str:
    return "" if half is None else f" [{difference - half:{form}}, {difference + half:{form}}]"


def _why(half: float | None) -> str:
    return " (one seed: no interval)" if half is None else ""


def evaluate_claims(
    claims: list[dict],
    paper: str,
    runs: pd.DataFrame,
    histories: pd.DataFrame,
    measures: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """One line for each claim: the columns `COLUMNS`.

    Args:
        claims: as `whysgd.study.papers.claims_at` has them.
        paper: whose they are.
        runs, histories: the tidy frames.
        measures: one line for each quantity of each run, with the columns paper, run, scale, seed, measure, quantity,
            value, std_error and samples; None or empty if nothing was measured, and claims that need it then are
            undetermined.
    """
    runs, histories = (frame[frame.paper == paper] for frame in (runs, histories))
    lines = []
    for claim in claims:
        measured = claim["metric"] in MEASURED
        values, intervals = _measured(claim, paper, measures) if measured else (_values(claim, runs, histories), None)
        form = "+.3f" if claim["metric"] == EARLY else "+.3g" if measured else "+.2f"
        word = "not measured" if measured else "not run"
        result = evaluate_check(claim["judged"], values, claim["gaps"], form, word, claim.get("tables"), intervals)
        if claim["left_out"]:
            # One part can refute a claim; to hold it needs all of them.
            result["verdict"] = "fails" if result["verdict"] == "fails" else "undetermined"
            result["evidence"] += f"; not at this scale: {', '.join(claim['left_out'])}"
        lines.append({**claim, **result})
    return pd.DataFrame(lines, columns=COLUMNS)


def _measured(claim: dict, paper: str, measures: pd.DataFrame | None) -> tuple[dict, dict]:
    """The quantity that is the claim's metric over seeds, by run, and likewise the 95 % intervals (low, high)."""
    if measures is None or measures.empty:
        return {}, {}
    mine = measures[(measures.paper == paper) & (measures.quantity == claim["metric"])]
    mine = mine.reindex(columns=[*mine.columns.difference(["low", "high"]), "low", "high"])
    values, intervals = {}, {}
    for run, group in mine.groupby("run"):
        values[run] = group.value.astype(float).tolist()
        intervals[run] = list(zip(group.low.astype(float), group.high.astype(float), strict=True))
    return values, intervals


def _values(claim: dict, runs: pd.DataFrame, histories: pd.DataFrame) -> dict[str, list[float]]:
    """The claim's metric over seeds, by run, from what the runs themselves wrote."""
    if claim["metric"] == EARLY:
        return {run: early_norm_ratios(histories, run, gap["to"]) for run, gap in claim["gaps"].items()}
    return {run: group[claim["metric"]].astype(float).tolist() for run, group in runs.groupby("run")}


def shown(claims: pd.DataFrame) -> tuple[str, pd.DataFrame]:
    """For readers: a sentence on what is compared, and the claims without the metric, which the sentence explains."""
    metrics = claims.groupby("metric", sort=False).id.agg(", ".join)
    parts = [f"{MEANINGS[metric]} ({ids})" for metric, ids in metrics.items()]
    parts = [MEANINGS[metric] for metric in metrics.index] if len(parts) == 1 else parts
    sentence = f"Differences in {'; in '.join(parts)}; with 95 % intervals over seeds."
    each, trend = (claims.check.str.contains(word, regex=False) for word in ("each(", "trend("))
    if (each | trend).all():
        sentence = f"About {'; '.join(parts)}."
    if each.any():
        sentence += (
            " each(…) takes every run of these tables, its mean over seeds and the 95 % interval that the measure gives"
            " each seed."
        )
    if trend.any():
        sentence += (
            " trend(…) takes every row of the table, and Spearman's rank correlation of these numbers with the axis of"
            " its columns over all seeds; its two-sided p is corrected for the number of rows by Holm's method."
        )
    if claims.check.str.contains("spearman(", regex=False).any():
        sentence += (
            " spearman(…) is the rank correlation of these numbers with a run's place in the list, over all seeds of"
            " its runs, with a two-sided p."
        )
    return sentence, claims.drop(columns="metric")


def claims_to_markdown(claims: pd.DataFrame, measured: str) -> str:
    """The claims with their verdicts, and below them the evidence for each."""
    sentence, lines = shown(claims)
    body = lines[["id", "claim", "verdict"]].to_markdown(index=False, disable_numparse=True)
    evidence = "\n".join(f"- {line.id}: {line.evidence}." for line in lines.itertuples())
    return f"Measured: {measured}. {sentence}\n\n{body}\n\n{evidence}\n"
