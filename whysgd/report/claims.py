"""The verdicts on the papers' claims: holds, fails or undetermined."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from whysgd.report import statistics as stats
from whysgd.report.measures import COLUMNS as MEASURES
from whysgd.report.measures import titled
from whysgd.report.table import Cell, Table
from whysgd.study.claims import (
    EARLY,
    FAILS,
    HOLDS,
    MEASURED,
    UNDETERMINED,
    Claim,
    Difference,
    GapShare,
    OfTables,
    Ranking,
)  # fmt: skip

COLUMNS = ["id", "claim", "metric", "compares", "check", "runs", "verdict", "evidence"]
# What a run's name stands for.
MEANINGS = {
    "test_accuracy": "points of test accuracy at the last step",
    "best_test_accuracy": "points of test accuracy at the selected step",
    EARLY: (
        "the mean |log ratio| of the average micro-batch gradient norm to that of small-batch SGD, over the first tenth"
        " of training"
    ),
    **{name: f"{titled(name)} of the trained network" for name in MEASURED},
}
# What is said of some kinds of comparisons below the verdicts.
EXPLAINED = {
    "each": (
        " each(…) takes every run of these tables, its mean over seeds and the 95 % interval that the measure gives"
        " each seed."
    ),
    "trend": (
        " trend(…) takes every row of the table, and Spearman's rank correlation of these numbers with the axis of"
        " its columns over all seeds; its two-sided p is corrected for the number of rows by Holm's method."
    ),
    "spearman": (
        " spearman(…) is the rank correlation of these numbers with a run's place in the list, over all seeds of its"
        " runs, with a two-sided p; of more than seven values it comes from 9,999 random orders and is at least 0.0002."
    ),
}
NAMED = 4  # runs of a list, before it is cut
FEW = 2  # parts of a claim that are written out where they are not at the scale; the page shows the whole check
EARLY_PART = 10  # a tenth of the steps is early


class Values(NamedTuple):
    """A claim's metric by run and seed, and the 95 % intervals (low, high) of those values that have their own."""

    over_seeds: Mapping[str, stats.Seeds]
    intervals: Mapping[str, Sequence[tuple[float, float]]] = {}


def evaluate_claims(
    claims: Iterable[Claim],
    paper: str,
    runs: pd.DataFrame,
    histories: pd.DataFrame,
    measures: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Return the columns `COLUMNS` of each claim of a paper, judged by its lines of the tidy frames."""
    measures = pd.DataFrame(columns=MEASURES) if measures is None else measures
    runs, histories, measures = (frame[frame.paper == paper] for frame in (runs, histories, measures))
    lines = []
    for claim in claims:
        kinds = dict.fromkeys(one.kind for part in claim.parts for one in part.comparisons)
        verdict = judge_claim(claim, _values(claim, runs, histories, measures))
        told = (claim.id, claim.claim, claim.metric, " ".join(kinds), claim.check, " ".join(claim.runs))
        lines.append((*told, *verdict))
    return pd.DataFrame(lines, columns=COLUMNS)


def _values(claim: Claim, runs: pd.DataFrame, histories: pd.DataFrame, measures: pd.DataFrame) -> Values:
    """Return the claim's metric from what measures found, or from what the runs themselves wrote."""
    if claim.metric == EARLY:
        judged = {run for comparison in claim.comparisons for run in comparison.runs}
        return Values({run: early_norm_ratios(histories, run, to) for run, to in claim.references if run in judged})
    if claim.metric not in MEASURED:
        return Values({run: _by_seed(group, claim.metric) for run, group in runs.groupby("run")})
    found = dict(list(measures[measures.quantity == claim.metric].groupby("run")))
    intervals = {run: group[["low", "high"]].astype(float).to_numpy().tolist() for run, group in found.items()}
    return Values({run: _by_seed(group, "value") for run, group in found.items()}, intervals)


def _by_seed(lines: pd.DataFrame, column: str) -> stats.Seeds:
    return dict(zip(lines.seed, lines[column].astype(float), strict=True))


def early_norm_ratios(histories: pd.DataFrame, run: str, reference: str) -> stats.Seeds:
    """Return the mean of |ln(norm of run / norm of reference)| over the first tenth of training, for each seed.

    norm² is the mean of ‖g_B‖² over micro-batches, the history's `micro_batch_norm2`. The lines are those that both
    runs of a seed have, up to a tenth of the steps; if there is none, their first one. A seed without such a line,
    because one of the runs was not made or has no `probe`, has no number; one in which a run ended before the tenth,
    or had a norm of 0, has an infinite one: it imitates nothing.
    """
    norms = histories[histories.micro_batch_norm2.notna()]
    ratios = {}
    for seed, mine in norms[norms.run == run].groupby("seed"):
        theirs = norms[(norms.run == reference) & (norms.seed == seed)]
        both = mine.merge(theirs, on="step", suffixes=("", "_reference")).sort_values("step")
        ends = histories[histories.run.isin([run, reference]) & (histories.seed == seed)].groupby("run").step.max()
        tenth = ends.max() / EARLY_PART  # a run that diverged is shorter than the other one
        early = both[both.step <= tenth]
        early = both.head(1) if early.empty else early
        if ends.min() < tenth or (early.filter(like="norm2") == 0).any(axis=None):
            ratios[seed] = np.inf
        elif len(early):
            logs = 0.5 * np.log(early.micro_batch_norm2 / early.micro_batch_norm2_reference)
            ratios[seed] = float(logs.abs().mean())
    return ratios


def judge_claim(claim: Claim, values: Values) -> tuple[str, str]:
    """Return the verdict on a claim, and the evidence: a sentence with each difference and its interval.

    A claim holds if all its comparisons hold and fails if one fails; if a part is left out, it does not hold. A
    comparison some of whose runs have no values is undetermined, and the evidence lists these runs.
    """
    missing, verdicts, evidence = {}, [], []
    for comparison in claim.comparisons:
        if lacking := [run for run in comparison.needs if not values.over_seeds.get(run)]:
            missing |= dict.fromkeys(lacking)
            continue
        verdict, sentence = JUDGES[comparison.kind](comparison, values, claim.metric)
        verdicts.append(verdict)
        evidence.append(sentence)
    if missing:
        whole = any(isinstance(comparison, OfTables) for comparison in claim.comparisons)
        cut = whole and len(missing) > NAMED
        some = [*list(missing)[:NAMED], f"… ({len(missing)} runs)"] if cut else missing
        word = "not measured" if claim.metric in MEASURED else "not run"
        verdicts.append(UNDETERMINED)
        evidence.append(f"{word}: {', '.join(some)}")
    if claim.left_out:
        verdicts.append(UNDETERMINED)
        count = len(claim.left_out)
        some = f"{count} of the claim's {len(claim.parts)} parts" if count > FEW else ", ".join(claim.left_out)
        evidence.append(f"not at this scale: {some}")
    verdict = next((verdict for verdict in (FAILS, UNDETERMINED) if verdict in verdicts), HOLDS)
    return verdict, "; ".join(evidence)


def _judge_difference(claimed: Difference, values: Values, metric: str) -> tuple[str, str]:
    """Judge by the side of the threshold that the whole 95 % interval of `difference` lies on."""
    if lost := _lost(claimed.runs, values):
        return UNDETERMINED, lost
    form = "+.3f" if metric == EARLY else "+.3g" if metric in MEASURED else "+.2f"
    found, half = stats.difference(dict(claimed.weights), values.over_seeds)
    name = " ".join(f"{'+' if weight > 0 else '-'} {run}" for run, weight in claimed.weights).removeprefix("+ ")
    wanted = f"claimed {'>' if claimed.strict else '≥'} {claimed.needed:g}"
    verdict, why = _verdict(claimed, found, half, values)
    return verdict, f"{name} = {found:{form}}{_interval(found, half, form)}, {wanted}{why}"


def _judge_gap(claimed: GapShare, values: Values, metric: str) -> tuple[str, str]:
    """Judge the linear claim; undetermined unless the gap's end is above its start with the whole interval.

    The evidence has the gap in percent, and how far the run is on the claimed side, in points, with its interval.
    """
    (run, start, end), (share, _) = claimed.needs, stats.recovered(*claimed.needs, values.over_seeds)
    total, width = stats.difference({end: 1.0, start: -1.0}, values.over_seeds)
    # Adding 0 makes -0 a 0.
    percent = "undefined" if share is None else f"{round(100 * share) + 0} %"
    name = f"gap({run}) = {percent}"
    if width is not None and total <= width:
        sign = "is below 0" if total + width < 0 else "is not clearly above 0"
        total = f"{total:+.2f}{_interval(total, width)}"
        return UNDETERMINED, f"{name}, but {end} - {start} = {total} {sign}: there is no gap to recover"
    ahead, half = stats.difference(dict(claimed.linear.weights), values.over_seeds)
    wanted = f"claimed {100 * claimed.share:g} %; points {'over' if claimed.sign > 0 else 'under'} that:"
    verdict, why = _verdict(claimed.linear, ahead, half, values)
    return verdict, f"{name}, {wanted} {ahead:+.2f}{_interval(ahead, half)}{why}"


def _judge_ranking(claimed: Ranking, values: Values, metric: str) -> tuple[str, str]:
    """Judge by the sign of the rank correlation, if that is significant."""
    if lost := _lost(claimed.runs, values):
        return UNDETERMINED, lost
    pairs = [(place, value) for place, run in enumerate(claimed.runs) for value in values.over_seeds[run].values()]
    places, numbers = zip(*pairs, strict=True)
    name, wanted = f"spearman({', '.join(claimed.runs)})", f"claimed {'>' if claimed.sign > 0 else '<'} 0"
    if len(pairs) < 3 or len(set(numbers)) == 1:
        why = "all values are the same" if len(pairs) > 2 else "too few for a correlation"
        return UNDETERMINED, f"{name}: n = {len(pairs)}, {why}; {wanted}"
    rho, p = stats.rank_correlation(places, numbers)
    verdict = UNDETERMINED if not p < stats.SIGNIFICANT else HOLDS if rho * claimed.sign > 0 else FAILS
    return verdict, f"{name} = {rho:+.2f}, p = {p:.2g}, n = {len(pairs)}, {wanted}"


def _judge_each(claimed: OfTables, values: Values, metric: str) -> tuple[str, str]:
    """Judge every run of some tables: the claim holds if all are on the claimed side, and fails if one is on the other.

    A run is on a side if its mean over seeds and the whole 95 % interval of each seed lie there. On the other side it
    needs two seeds: among a hundred runs the interval of a single seed lies there by chance.
    """
    sign, bound = claimed.sign, claimed.bound
    against, unclear, lost, sides = [], [], [], {}
    for run in claimed.needs:
        seeds = list(values.over_seeds[run].values())
        if not all(map(math.isfinite, seeds)):
            lost.append(run)
            continue
        ahead = sign * (stats.mean(seeds) - bound)
        # A value without an interval counts as its own.
        known = np.array(values.intervals.get(run) or np.full((len(seeds), 2), np.nan))
        ends = (sign * (np.where(np.isnan(known), np.array(seeds)[:, None], known) - bound)).ravel()
        sides[run] = (ahead, min(ends))
        if max(ahead, *ends) <= 0 and len(seeds) > 1:
            against.append(run)
        elif min(ahead, *ends) <= 0:
            unclear.append(run)
    evidence = f"{claimed}: {len(claimed.needs)} runs"
    if sides:
        last = min(sides, key=lambda run: sides[run][0])
        (ahead, worst), (word, end) = sides[last], ("smallest", "down") if sign > 0 else ("largest", "up")
        reach = f", its seeds' intervals {end} to {bound + sign * worst:.3g}" if worst < ahead else ""
        evidence += f", {word} {bound + sign * ahead:.3g} ({last}{reach})"
    for some, what in ((against, "are not"), (unclear, "are not clear"), (lost, "have a seed without a number")):
        names = ", ".join(some[:NAMED]) + (", …" if len(some) > NAMED else "")
        evidence += f"; {len(some)} {what}: {names}" if some else ""
    return FAILS if against else UNDETERMINED if unclear or lost else HOLDS, evidence


def _judge_trend(claimed: OfTables, values: Values, metric: str) -> tuple[str, str]:
    """Judge the rows of a grid: the claim holds if all `trends` are clear, over the seeds that have a number.

    Otherwise it is undetermined: that nothing is seen does not say that nothing is there.
    """
    rows = [[(place, value) for run, place in row for value in values.over_seeds[run].values()] for row in claimed.rows]
    finite = [[(place, value) for place, value in row if math.isfinite(value)] for row in rows]
    total = sum(map(len, rows))
    lost = total - sum(map(len, finite))
    found = stats.trends([([place for place, _ in row], [value for _, value in row]) for row in finite])
    up, down = (sum(one.clear and one.rho * sign > 0 for one in found) for sign in (1, -1))
    few = sum(not one.enough and not one.clear for one in found)
    counts = [f"+ in {up}", f"− in {down}", f"not significant in {len(rows) - up - down - few}"]
    counts += [f"too few values in {few}"] if few else []
    note = f"; {lost} of {total} values are no numbers and left out" if lost else ""
    many = f"{len(rows)} row{'s' * (len(rows) > 1)}"
    sentence = f"{claimed}, {many}: {', '.join(counts)} (Holm p < {stats.SIGNIFICANT}){note}"
    return HOLDS if up + down == len(rows) else UNDETERMINED, sentence


# How each kind of comparison is judged, whose runs all have values: the verdict and the evidence.
JUDGES = {
    "difference": _judge_difference, "gap": _judge_gap, "spearman": _judge_ranking, "each": _judge_each,
    "trend": _judge_trend,
}  # fmt: skip


def _lost(runs: Iterable[str], values: Values) -> str | None:
    """Return a sentence on the runs that have a value that is no number; None if there is none."""
    lost = [run for run in runs if not all(map(math.isfinite, values.over_seeds[run].values()))]
    why = "has no such number for one of its seeds: it diverged, or the number is not defined"
    return f"{', '.join(lost)}: {why}" if lost else None


def _verdict(claimed: Difference, found: float, half: float | None, values: Values) -> tuple[str, str]:
    """Return the verdict, and for one that is undetermined how many seeds would decide."""
    if half is None:
        return UNDETERMINED, " (one seed: no interval)"
    low, high, needed = found - half, found + half, claimed.needed
    holds, fails = (low > needed, high <= needed) if claimed.strict else (low >= needed, high < needed)
    if holds or fails:
        return HOLDS if holds else FAILS, ""
    seeds = stats.seeds_needed(dict(claimed.weights), values.over_seeds, found - needed)
    return UNDETERMINED, f" ({f'about {seeds}' if seeds else f'no {stats.MOST_SEEDS}'} seeds would decide)"


def _interval(difference: float, half: float | None, form: str = "+.2f") -> str:
    return "" if half is None else f" [{difference - half:{form}}, {difference + half:{form}}]"


def explanation(claims: pd.DataFrame) -> str:
    """Return the sentences on what the claims of `evaluate_claims` compare."""
    metrics = claims.groupby("metric", sort=False).id.agg(", ".join)
    parts = [f"{MEANINGS[metric]} ({ids})" for metric, ids in metrics.items()]
    parts = [MEANINGS[metric] for metric in metrics.index] if len(parts) == 1 else parts
    kinds = [set(text.split()) for text in claims.compares]
    if all(some & {"each", "trend", "spearman"} for some in kinds):
        sentence = f"About {'; '.join(parts)}."
    else:
        sentence = f"Differences in {'; in '.join(parts)}; with 95 % intervals, paired by seed where the runs"
        sentence += " have three or more in common."
    return sentence + "".join(text for kind, text in EXPLAINED.items() if any(kind in some for some in kinds))


def claims_blocks(claims: pd.DataFrame, measured: str) -> list:
    """Return the claims with their verdicts, and below them the evidence for each, as `whysgd.report.table` has it."""
    heads = ["id", "claim", "verdict"]
    table = Table("Claims", heads, [False] * 3, [list(map(Cell, row)) for row in claims[heads].to_numpy()])
    evidence = [f"{line.id}: {line.evidence}." for line in claims.itertuples()]
    return [f"Measured: {measured}. {explanation(claims)}", table, evidence]
