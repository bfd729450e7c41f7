"""Spearman's rank correlation with a permutation test, and Holm's correction for several of them."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from whysgd.streams import stream

# The largest p at which a rank correlation decides.
SIGNIFICANT = 0.05


def rank_correlation(x: Iterable[float], y: Iterable[float]) -> tuple[float, float]:
    """Spearman's ρ, equal values sharing their rank, and its two-sided p.

    p is that of the permutation test: exact up to seven pairs, of 9,999 random orders beyond. The usual formula says
    p = 0 of any perfect order, even of three pairs.
    """
    from scipy import stats  # Half a second; most claims compare no ranks.

    a, b = (stats.rankdata(values) for values in (x, y))
    a, b = a - a.mean(), b - b.mean()

    def rho(order, axis=-1):
        return np.tensordot(order, a, (axis, 0)) / np.sqrt(a @ a * (b @ b))

    found = stats.permutation_test(
        (b,), rho, permutation_type="pairings", vectorized=True, n_resamples=9999, rng=stream(0, "ranks")
    )
    return float(found.statistic), float(found.pvalue)


def smallest_p(x: Sequence[float]) -> float:
    """The two-sided p of a perfect order of distinct values over these x: no correlation can be more significant.

    Of n! orders, ∏ m! are as perfect, m being how often each x is there, and as many are perfect the other way.
    """
    alike = math.prod(math.factorial(count) for count in Counter(x).values())
    return min(1.0, 2 * alike / math.factorial(len(x)))


def holm(p: Sequence[float]) -> list[float]:
    """Holm's corrected p of several tests, in their order.

    The i-th smallest of m is multiplied by m − i + 1, and none is smaller than a corrected one before it (S. Holm, A
    simple sequentially rejective multiple test procedure, 1979). Those below a level are significant at it, together.
    """
    corrected, largest = [0.0] * len(p), 0.0
    for place, index in enumerate(sorted(range(len(p)), key=lambda index: p[index])):
        largest = max(largest, min(1.0, (len(p) - place) * p[index]))
        corrected[index] = largest
    return corrected
