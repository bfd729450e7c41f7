"""All statistics of the reports: intervals over seeds, rank correlations, their tests and their bootstrap."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean as mean
from statistics import variance
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit  # scipy.stats takes half a second to load

from whysgd.streams import stream

LEVEL = 0.95
# Largest p at which a rank correlation decides; resamples of a bootstrap.
SIGNIFICANT, RESAMPLES = 0.05, 2000
# More seeds than anyone trains.
MOST_SEEDS = 100
# The values of a run, by seed.
Seeds = Mapping[int, float]


def difference(weights: Mapping[str, float], values: Mapping[str, Seeds]) -> tuple[float, float | None]:
    """Return a weighted sum of means, d = Σ c·mean, and half the width t·s of its 95 % interval.

    Runs that share three seeds or more are paired by seed, because a seed draws the same initial weights and order of
    the images in each: d and s² = s_d²/n are over the n seeds that all have, with s_d² the variance of Σ c·value and
    n − 1 degrees of freedom; seeds that only some have are left out. Others count as independent: s² = Σ c² s_r²/n_r
    with the Welch–Satterthwaite degrees of freedom.

    Args:
        weights: c of each run.
        values: over the seeds of each run, at least one.

    Returns:
        d, and t·s, None if a run has fewer than two seeds.
    """
    values = _paired(weights, values)
    total = math.fsum(weight * mean(values[run].values()) for run, weight in weights.items())
    total = float(f"{total:.12g}")  # A half is a half, so that tables and claims round it to the same side.
    if min(len(values[run]) for run in weights) < 2:
        return total, None
    spread, degrees = _spread(weights, values)
    return total, _t(degrees) * spread**0.5


def _paired(runs: Iterable[str], values: Mapping[str, Seeds]) -> Mapping[str, Seeds]:
    """Return the values of the seeds that all runs have, if these are three or more; else all values."""
    shared = sorted(set.intersection(*(set(values[run]) for run in runs)))
    return {run: {seed: values[run][seed] for seed in shared} for run in runs} if len(shared) > 2 else values


def _t(degrees: float) -> float:
    """Return Student's t of the level; 0 where nothing varies."""
    return float(stdtrit(degrees, 0.5 + LEVEL / 2)) if degrees else 0.0


def _spread(weights: Mapping[str, float], values: Mapping[str, Seeds]) -> tuple[float, float]:
    """Return s² of a weighted sum of means, and its degrees of freedom."""
    seeds = values[next(iter(weights))].keys()
    if len(seeds) > 2 and all(values[run].keys() == seeds for run in weights):
        sums = [math.fsum(weight * values[run][seed] for run, weight in weights.items()) for seed in seeds]
        return variance(sums) / len(seeds), len(seeds) - 1
    parts = {run: weight**2 * variance(values[run].values()) / len(values[run]) for run, weight in weights.items()}
    spread = math.fsum(parts.values())
    return spread, spread and spread**2 / math.fsum(part**2 / (len(values[run]) - 1) for run, part in parts.items())


def seeds_needed(weights: Mapping[str, float], values: Mapping[str, Seeds], margin: float) -> int | None:
    """Return with how many seeds the 95 % interval would be narrower than the margin on each side, if all else stays.

    This is the least n with t_(n−1)·s_d/√n < |margin|, s_d² = n·s² the variance over seeds measured so far.

    Args:
        weights, values: as for `difference`; at least two seeds of each run.
        margin: from the difference to the number that it is compared with.

    Returns:
        n, or None if it is more than `MOST_SEEDS`.
    """
    values = _paired(weights, values)
    each = _spread(weights, values)[0] * mean([len(values[run]) for run in weights])
    enough = (n for n in range(3, MOST_SEEDS + 1) if _t(n - 1) * (each / n) ** 0.5 < abs(margin))
    return next(enough, None)


def recovered(run: str, start: str, end: str, values: Mapping[str, Seeds]) -> tuple[float | None, bool] | None:
    """Return the share of end - start that a run recovers, and whether the whole interval of end - start is above 0.

    If the interval is not above 0, the share says nothing. The share is None if both ends are the same, and the whole
    result if one of the three runs has no values.
    """
    if not all(values.get(name) for name in (run, start, end)):
        return None
    values = _paired((run, start, end), values)
    (above, _), (total, half) = (difference({name: 1.0, start: -1.0}, values) for name in (run, end))
    return above / total if total else None, half is not None and total > half


def rank_correlation(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """Return Spearman's ρ, equal values sharing their rank, and its two-sided p.

    p is that of the permutation test: exact up to seven pairs, of 9,999 random orders beyond. The usual formula says
    p = 0 of any perfect order, even of three pairs.
    """
    from scipy import stats

    a, b = (stats.rankdata(values) for values in (x, y))
    a, b = a - a.mean(), b - b.mean()

    def rho(order, axis=-1):
        return np.tensordot(order, a, (axis, 0)) / np.sqrt(a @ a * (b @ b))

    found = stats.permutation_test(
        (b,), rho, permutation_type="pairings", vectorized=True, n_resamples=9999, rng=stream(0, "ranks")
    )
    return float(found.statistic), float(found.pvalue)


def smallest_p(x: Sequence[float]) -> float:
    """Return the two-sided p of a perfect order of distinct values over these x, the smallest that there can be.

    Of n! orders, ∏ m! are as perfect, m being how often each x is there, and as many are perfect the other way.
    """
    alike = math.prod(math.factorial(count) for count in Counter(x).values())
    return min(1.0, 2 * alike / math.factorial(len(x)))


def holm(p: Sequence[float]) -> list[float]:
    """Return Holm's corrected p of several tests, in their order.

    The i-th smallest of m is multiplied by m − i + 1, and none is smaller than a corrected one before it (S. Holm, A
    simple sequentially rejective multiple test procedure, 1979). Those below a level are significant at it, together.
    """
    corrected, largest = [0.0] * len(p), 0.0
    for place, index in enumerate(sorted(range(len(p)), key=lambda index: p[index])):
        largest = max(largest, min(1.0, (len(p) - place) * p[index]))
        corrected[index] = largest
    return corrected


class Trend(NamedTuple):
    """The trend of the values of one row, judged beside those of others.

    Attributes:
        rho: Spearman's ρ; 0 if there are fewer than three values, or if nothing varies.
        clear: whether its p, corrected by Holm's method, is significant.
        enough: whether there are values enough for a perfect order to be significant.
    """

    rho: float
    clear: bool
    enough: bool


def trends(rows: Sequence[tuple[Sequence[float], Sequence[float]]]) -> list[Trend]:
    """Return the trend of each of several rows, all judged together; a row has places, and a value at each place."""
    tests = []
    for places, values in rows:
        flat = len(values) < 3 or len(set(places)) < 2 or len(set(values)) < 2
        tests.append((0.0, 1.0) if flat else rank_correlation(places, values))
    corrected = holm([p for _, p in tests])
    enough = [len(places) > 2 and len(rows) * smallest_p(places) < SIGNIFICANT for places, _ in rows]
    return [Trend(rho, p < SIGNIFICANT, some) for (rho, _), p, some in zip(tests, corrected, enough, strict=True)]


def resamples(n: int, generator: np.random.Generator) -> np.ndarray:
    """Return how often each of n runs is drawn, (1 + `RESAMPLES`, n): the first line has each once, the others are
    draws of n runs with replacement.
    """
    return np.vstack([np.ones(n), generator.multinomial(n, np.full(n, 1 / n), size=RESAMPLES)])


def pair_sums(x: np.ndarray, y: np.ndarray, masks: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return Σ c_i c_j m_ij s_ij and Σ c_i c_j m_ij over pairs of runs, s_ij = sign(x_i − x_j)·sign(y_i − y_j).

    Their ratio is Kendall's τ_a of the masked pairs: those that x and y order alike minus those that they order the
    other way round, as a share of all; a tie in either counts 0. A run that is drawn twice is no pair with itself.

    Args:
        x, y: (n,).
        masks: (K, n, n), each with a pair in one of its two places and not on the diagonal.
        counts: c of B samples, (B, n).

    Returns:
        (K, B) each.
    """
    signs = np.sign(np.subtract.outer(x, x)) * np.sign(np.subtract.outer(y, y))
    return tuple(((counts @ part) * counts).sum(-1) for part in (masks * signs, masks))


def percentile_interval(found: np.ndarray) -> tuple[float, float]:
    """Return the 95 % percentile interval of the resamples that have a number."""
    if np.isnan(found).all():
        return math.nan, math.nan
    low, high = np.nanquantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
