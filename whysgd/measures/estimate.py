"""A measured number with its uncertainty."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev


@dataclass(frozen=True)
class Estimate:
    """A number, and how sure it is.

    Attributes:
        value: nan if it is not defined.
        std_error: of the value, in its unit; None if it is not known, 0 if the value is exact.
        samples: how many directions, probes, ascents, micro-batches or images it comes from.
        each: their own values, where they are few.
        interval: the ends of a 95 % interval, where the measure gives one; the upper may be inf.
    """

    value: float
    std_error: float | None
    samples: int
    each: tuple[float, ...] = ()
    interval: tuple[float, float] | None = None


def mean_of(values: Sequence[float]) -> Estimate:
    """The mean of independent samples, with the standard error s/√n; None of a single one."""
    values = [float(value) for value in values]
    error = stdev(values) / math.sqrt(len(values)) if len(values) > 1 and all(map(math.isfinite, values)) else None
    return Estimate(fmean(values), error, len(values), tuple(values))
