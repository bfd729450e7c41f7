"""95 % intervals over seeds: Welch's of a difference of means, and Fieller's of a ratio of two differences."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import variance

from scipy.special import stdtrit  # scipy.stats takes a second to load

LEVEL = 0.95


def mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)


def welch(weights: Mapping[str, float], values: Mapping[str, list[float]]) -> tuple[float, float | None]:
    """A weighted sum of means, d = Σ c·mean, and half the width of its 95 % interval, d ± t·s.

    s² = Σ c² s_r²/n_r, with the Welch–Satterthwaite degrees of freedom; the seeds of two runs count as independent.

    Args:
        weights: c of each run.
        values: over the seeds of each run, at least one.

    Returns:
        d, and t·s, None if a run has fewer than two seeds.
    """
    difference = math.fsum(weight * mean(values[run]) for run, weight in weights.items())
    if min(len(values[run]) for run in weights) < 2:
        return difference, None
    spread, t = _spread(weights, values)
    return difference, t * spread**0.5


def _spread(weights: Mapping[str, float], values: Mapping[str, list[float]]) -> tuple[float, float]:
    """s² of a weighted sum, and t of its degrees of freedom (0 where nothing varies)."""
    parts = [
        (weight**2 * variance(values[run]) / len(values[run]), len(values[run])) for run, weight in weights.items()
    ]
    spread = math.fsum(part for part, _ in parts)
    if spread == 0:
        return 0.0, 0.0
    degrees = spread**2 / math.fsum(part**2 / (n - 1) for part, n in parts)
    return spread, float(stdtrit(degrees, 0.5 + LEVEL / 2))


@dataclass(frozen=True)
class Gap:
    """How much of the difference between two runs a third one recovers, as a share: 0 is the first, 1 the second.

    Attributes:
        value: (run − from) / (to − from) of the means; None if to and from are the same.
        low, high: Fieller's 95 % interval, None where there is none: a run has one seed, or it is not bounded.
        resolved: whether the whole Welch interval of to − from is above 0. If not, the value says nothing.
    """

    value: float | None
    low: float | None
    high: float | None
    resolved: bool


def recovered(run: str, ends: Mapping[str, str], values: Mapping[str, list[float]]) -> Gap | None:
    """The gap that a run recovers; None if one of the three runs has no values.

    Fieller's interval (E. C. Fieller, Some problems in interval estimation, 1954) has the shares ρ that the data do not
    reject: (a − ρ·b)² ≤ t²·(V_a − 2ρ·C + ρ²·V_b), a = run − from, b = to − from, C the variance of from's mean, which
    the two share. t is that of Welch's interval of a − ρ·b at the measured ρ.

    Args:
        run, ends: the run, and those it lies between, {from, to}.
        values: accuracies over seeds, by run.
    """
    low_end, high_end = ends["from"], ends["to"]
    if not all(values.get(name) for name in (run, low_end, high_end)):
        return None
    above, total = ({name: 1.0, low_end: -1.0} for name in (run, high_end))
    (a, half), (b, width) = welch(above, values), welch(total, values)
    resolved = width is not None and b - width > 0
    if b == 0:
        return Gap(None, None, None, resolved)
    share = a / b
    if half is None or width is None:
        return Gap(share, None, None, resolved)
    (v_a, _), (v_b, _) = _spread(above, values), _spread(total, values)
    shared = variance(values[low_end]) / len(values[low_end])
    _, t = _spread({run: 1.0, low_end: share - 1.0, high_end: -share}, values)
    # The inequality is square·ρ² − 2·middle·ρ + rest ≤ 0, an interval if the square is positive.
    square, middle, rest = b**2 - t**2 * v_b, a * b - t**2 * shared, a**2 - t**2 * v_a
    if square <= 0:
        return Gap(share, None, None, resolved)
    root = math.sqrt(max(0.0, middle**2 - square * rest))
    return Gap(share, (middle - root) / square, (middle + root) / square, resolved)
