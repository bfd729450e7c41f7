"""The tail index α of symmetric α-stable numbers: of stored samples by two estimators, of a stream with an interval."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from whysgd.streams import stream

# Added to absolute values before their logarithm, as in the published code.
EPS = 2.0**-52
RESAMPLES, LEVEL = 1000, 0.95
# Means of logarithms closer than this, relative to them, are equal but for rounding: α is not defined.
SAME = 1e-6


def alpha_estimator(m: int, X: torch.Tensor | np.ndarray, eps: float = EPS) -> float:  # noqa: N803
    """The tail index of symmetric α-stable samples, from N = n·m of them.

        1/α = ( mean_i log ‖Y_i‖ − mean_j log ‖X_j‖ ) / log m,    Y_i = X_{(i−1)m+1} + … + X_{im},  i = 1 … n

    Args:
        m: samples of each sum.
        X: (N,) or (N, d); ‖·‖ is the absolute value, or the Euclidean norm of a row.
        eps: added to each norm before the logarithm, so that an exact zero does not make it −∞. Such a zero enters as
            log 2⁻⁵² = −36 and pulls α down: one in ten among normal numbers of size 10⁻³ from 2 to 0.9, with m = 100.
            0 leaves norms as they are.

    Returns:
        α, not clipped to (0, 2]; nan if m = 1 or if the two means are equal.

    Raises:
        ValueError: N is not a multiple of m.

    Source: Mohammadi, Mohammadpour, Ogata 2015, On estimating the tail index and the spectral measure of multivariate
        α-stable distributions, corollary 2.4.
    """
    single, sums = _logarithms(m, X, eps)
    return _alpha(single.double().mean().item(), sums.double().mean().item(), m)


def alpha_estimator2(m: int, k: int, X: torch.Tensor | np.ndarray, eps: float = EPS) -> float:  # noqa: N803
    """The tail index from order statistics instead of means; otherwise as `alpha_estimator`.

        1/α = ( log ‖Y‖_(k) − log ‖X‖_(mk) ) / log m,    (k) the k-th smallest

    Args:
        m, X, eps: as there. Zeros matter only where they reach the (mk)-th smallest.
        k: 1 … n.

    Raises:
        ValueError: N is not a multiple of m, or k is not one of 1 … n.

    Source: as there, corollary 2.2.
    """
    single, sums = _logarithms(m, X, eps)
    if not 1 <= k <= len(sums):
        raise ValueError(f"k = {k}: must be at least 1 and at most {len(sums)}, the number of sums")
    return _alpha(single.kthvalue(m * k).values.item(), sums.kthvalue(k).values.item(), m)


def _logarithms(m: int, samples, eps: float) -> tuple[torch.Tensor, torch.Tensor]:
    """log(‖X_j‖ + eps) (N,) and log(‖Y_i‖ + eps) (n,)."""
    samples = torch.as_tensor(samples)
    samples = samples.detach() if samples.is_floating_point() else samples.double()
    if m < 1 or not len(samples) or len(samples) % m:
        raise ValueError(f"m = {m}: the {len(samples)} samples must be a multiple of it, and some")
    samples = samples.reshape(len(samples), -1)
    sums = samples.view(-1, m, samples.shape[1]).sum(1)
    # A norm over a row of one number would square it: tiny numbers would become zeros.
    return tuple((x.abs()[:, 0] if x.shape[1] == 1 else x.norm(dim=1)).add(eps).log() for x in (samples, sums))


def _alpha(single: float, sums: float, m: int) -> float:
    """α from the means (or order statistics) of log ‖X‖ and of log ‖Y‖; nan if it is not defined."""
    difference = sums - single
    same = m == 1 or not abs(difference) > SAME * max(abs(single), abs(sums))
    return math.nan if same or not math.isfinite(difference) else math.log(m) / float(difference)


def largest_divisor(number: int) -> int:
    """The published m: the largest divisor of N not above √N. At most √N divisions: 5 ms for a prime near 10¹⁰.

    Raises:
        ValueError: N is below 1.
    """
    if number < 1:
        raise ValueError(f"{number} has no largest divisor: it must be at least 1")
    return next(m for m in range(math.isqrt(number), 0, -1) if number % m == 0)


@dataclass(frozen=True)
class AlphaEstimate:
    """A tail index, and how sure it is.

    Attributes:
        value: nan if it is not defined.
        low, high: 95 % interval; high is inf if the resamples do not bound it; both nan where the value is nan or below
            0, or where there is one block only.
        std_error: of the value; nan likewise.
        entries: N, the samples it comes from, but for the last N mod m.
        m: samples of each sum.
    """

    value: float
    low: float
    high: float
    std_error: float
    entries: int
    m: int


def undefined(entries: int, m: int = 1) -> AlphaEstimate:
    """No estimate."""
    return AlphaEstimate(*[math.nan] * 4, entries, m)


def chunk_entries(device: torch.device) -> int:
    """How many entries to work on at once: 2¹⁸ stay in a core's caches; a GPU wants few, large operations."""
    return 2**18 if device.type == "cpu" else 2**24


class StreamedAlpha:
    """`alpha_estimator` of one-dimensional samples that are never stored, with an interval.

    The open sum is carried from one call to the next. Neighbouring sums Y_i, with their samples, make a block; the
    blocks are what the bootstrap resamples, so what depends on each other should be in one. Totals are in float64,
    everything else in the precision of the samples. Memory does not grow with the number of samples or of sums.

    Args:
        entries: N, how many will be added in all.
        m: samples of each sum; None: `largest_divisor`. If N is not a multiple of it, the last N mod m are left out.
        blocks: at most so many, as equal as they can be.
        eps: see `alpha_estimator`.

    Raises:
        ValueError: m or blocks is below 1, or N below m.
    """

    def __init__(self, entries: int, m: int | None = None, blocks: int = 100, eps: float = EPS):
        self.entries, self.m, self.eps = entries, largest_divisor(entries) if m is None else m, eps
        if not 1 <= self.m <= entries or blocks < 1:
            raise ValueError(
                f"entries = {entries}, m = {m}, blocks = {blocks}: m must be at least 1 and at most entries"
            )
        self.groups = entries // self.m
        # Of the samples so far, and of them those that are used.
        self.given = self.added = 0
        self.blocks = min(blocks, self.groups)
        # Of each block: sums of log|X| and of log|Y|. Of the open sum: log|X| and X so far.
        self.sums = self.open = self.buffer = None

    def add(self, values: torch.Tensor) -> None:
        """The next samples, (any number,); they are left as they are.

        Raises:
            ValueError: more than `entries` in all.
        """
        if self.given + len(values) > self.entries:
            raise ValueError(f"{self.given + len(values)} entries were added, not {self.entries}")
        self.given += len(values)
        values = values[: self.groups * self.m - self.added]
        if self.sums is None:
            self.sums = torch.zeros(2, self.blocks, dtype=torch.float64, device=values.device)
            self.open = self.sums.new_zeros(2)
            self.buffer = values.new_empty(min(self.entries, chunk_entries(values.device)))
        for chunk in values.split(len(self.buffer)) if len(values) else ():
            self._add(chunk, torch.abs(chunk, out=self.buffer[: len(chunk)]).add_(self.eps).log_())

    def _add(self, values: torch.Tensor, logs: torch.Tensor) -> None:
        """What completes the open sum, then whole sums, then what opens the next."""
        first = -(-self.added // self.m)
        head = min(first * self.m - self.added, len(values))
        whole = (len(values) - head) // self.m
        parts = head, whole * self.m, len(values) - head - whole * self.m
        self.added += len(values)
        for place, (some, their_logs) in enumerate(zip(values.split(parts), logs.split(parts), strict=True)):
            if not len(some):
                continue
            if place == 1:
                self._close(first, their_logs.view(whole, self.m).sum(1), some.view(whole, self.m).sum(1))
                continue
            self.open[0] += their_logs.sum()
            self.open[1] += some.sum()
            if place == 0 and self.added >= first * self.m:
                self._close(first - 1, *self.open.split(1))
                self.open.zero_()

    def _close(self, first: int, logs: torch.Tensor, sums: torch.Tensor) -> None:
        """Put complete sums, from the first-th on, into their blocks: their Σ log|X| and Y."""
        block = torch.arange(first, first + len(sums), device=sums.device).mul_(self.blocks).div_(
            self.groups, rounding_mode="floor"
        )  # fmt: skip
        self.sums[0].index_add_(0, block, logs.double())
        self.sums[1].index_add_(0, block, sums.double().abs_().add_(self.eps).log_())

    def estimate(self) -> AlphaEstimate:
        """α and its interval: see `block_bootstrap`.

        Raises:
            ValueError: fewer than `entries` were added.
        """
        if self.given != self.entries:
            raise ValueError(f"{self.given} entries were added, not {self.entries}")
        borders = [-(-block * self.groups // self.blocks) for block in range(self.blocks + 1)]
        return block_bootstrap(*self.sums.cpu().numpy(), np.diff(borders), self.m)


def block_bootstrap(single: np.ndarray, sums: np.ndarray, sizes: np.ndarray, m: int) -> AlphaEstimate:
    """α with the 95 % percentile interval of a bootstrap over blocks, all else being what it is.

    Resampled is 1/α, which is linear in means; the interval's ends are its percentiles', inverted, and the standard
    error is α² that of 1/α.

    Args:
        single, sums: Σ log|X| and Σ log|Y| of each block (B,).
        sizes: how many sums Y each block has (B,).
        m: samples of each sum.
    """
    n, blocks = int(sizes.sum()), len(sizes)
    value = _alpha(single.sum() / (n * m), sums.sum() / n, m)
    if not value > 0 or blocks == 1:
        return AlphaEstimate(value, *[math.nan] * 3, n * m, m)
    weights = _resamples(blocks)
    inverse = (weights @ (sums - single / m)) / (weights @ sizes) / math.log(m)
    low, high = np.quantile(inverse, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    ends = (1 / high, math.inf if low <= 0 < high else 1 / low)
    return AlphaEstimate(value, *map(float, ends), value**2 * float(inverse.std(ddof=1)), n * m, m)


@lru_cache(maxsize=8)
def _resamples(blocks: int) -> np.ndarray:
    """How often each block is drawn, (resamples, blocks); the same at every call."""
    return stream(0, "alpha-bootstrap").multinomial(blocks, [1 / blocks] * blocks, RESAMPLES).astype(float)


def alpha_interval(samples: torch.Tensor | np.ndarray, m: int | None = None, blocks: int = 100) -> AlphaEstimate:
    """`alpha_estimator` of stored samples (N,) with an interval; see `StreamedAlpha`."""
    samples = torch.as_tensor(samples).flatten()
    streamed = StreamedAlpha(len(samples), m, blocks)
    streamed.add(samples if samples.is_floating_point() else samples.double())
    return streamed.estimate()
