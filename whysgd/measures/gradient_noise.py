"""How much the gradients of micro-batches differ: their mean squared norm, their covariance, the noise scale."""

import math
from collections.abc import Sequence

import numpy as np
import torch

from whysgd.measures.estimate import Estimate
from whysgd.measures.images import Images
from whysgd.measures.network import Network, finite
from whysgd.measures.untouched import untouched
from whysgd.streams import stream

QUANTITIES = {
    "gradient_norm2": ("squared gradient norm", "nats²", "lower"),
    "micro_batch_gradient_norm2": ("squared micro-batch gradient norm", "nats²", "lower"),
    "gradient_covariance_trace": ("trace of the gradient covariance", "nats²", "lower"),
    "gradient_noise_scale": ("gradient noise scale", "images"),
    "gradient_signal_to_noise": ("gradient signal to noise", ""),
    "gradient_mean_to_deviation": ("gradient mean to deviation", ""),
}


def gradient_noise(
    model: torch.nn.Module, images: Images, micro_batch: int = 128, groups: int = 20
) -> dict[str, Estimate]:
    """The gradient noise from the gradients g_B of k micro-batches of b images.

        micro_batch_gradient_norm2 = |g_small|² = mean_B ‖g_B‖²,    gradient_norm2 = |g_big|² = ‖mean_B g_B‖²
        gradient_covariance_trace  S = (|g_small|² − |g_big|²) / (1/b − 1/(kb))
        G = (kb |g_big|² − b |g_small|²) / (kb − b)
        gradient_noise_scale = S/G,    gradient_signal_to_noise = G b/S
        gradient_mean_to_deviation = ‖mean_B g_B‖ / ‖std_B g_B‖ = √(|g_big|² b/S)

    The last is the signal to noise ratio of geiping2022's released code, entry by entry with the unbiased variance over
    micro-batches. S is unbiased for the trace of the covariance of one image's gradient, and G for the squared norm of
    its mean; `gradient_norm2` itself is larger by S/(kb) on average. The images are taken in an order from the stream
    (seed, "noise-order"); a last micro-batch that is not full is left out.

    Args:
        micro_batch: images of a micro-batch, b.
        groups: of neighbouring micro-batches, for the standard errors. Memory is that of so many gradients.

    Returns:
        the six of them, in nats² but the noise scale (images) and the last two (no unit). A value is nan where it is
        not defined: the noise scale if G ≤ 0, which says that there are too few images to see a gradient; the last two
        if S = 0. `samples` are the micro-batches. Standard errors are the jackknife's that leaves out one group at
        a time; None for fewer than three micro-batches.

    Raises:
        ValueError: fewer than two micro-batches, or than two groups.

    Source: McCandlish et al. 2018, An empirical model of large-batch training (arXiv 1812.06162), appendix A; the
        jackknife with unequal groups: Busing et al. 1999, Delete-m jackknife for unequal m.
    """
    count = len(images) // micro_batch if micro_batch >= 1 else 0
    if count < 2 or groups < 2:
        raise ValueError(
            f"micro_batch = {micro_batch}, groups = {groups}: {len(images)} images make {count} full micro-batches; at "
            "least two of them and two groups are needed"
        )
    with untouched(model):
        norms, sums, sizes = group_sums(Network(model, images.loss), images, micro_batch, min(groups, count))
    total, every = sums.sum(0), sum(norms)
    left_out = [
        (every - norm, _norm2(total - part), count - size) for norm, part, size in zip(norms, sums, sizes, strict=True)
    ]
    whole = noise_statistics(every, _norm2(total), count, micro_batch)
    without = [noise_statistics(*one, micro_batch) for one in left_out] if count > 2 else []
    found = {}
    for name, value in whole.items():
        error = jackknife(value, [one[name] for one in without], sizes) if without else None
        if name == "gradient_noise_scale" and value <= 0:
            value = math.nan
        value = finite(value)
        found[name] = Estimate(value, None if math.isnan(value) else error, count)
    return found


def group_sums(network: Network, images: Images, micro_batch: int, groups: int):
    """Sums over groups of neighbouring micro-batches.

    Returns:
        Σ ‖g_B‖² of each group, Σ g_B of each (groups, P), and how many micro-batches each has; sizes differ by
        one at most.
    """
    count = len(images) // micro_batch
    order = stream(images.seed, "noise-order").permutation(len(images))[: count * micro_batch]
    sums = network.theta.new_zeros(groups, len(network.theta))
    norms = network.theta.new_zeros(groups, dtype=torch.float64)
    group = torch.from_numpy(np.arange(count) * groups // count).to(sums.device)
    together = network.micro_batches_at_once(micro_batch, images)
    for start in range(0, count, together):
        places = torch.from_numpy(order[start * micro_batch : (start + together) * micro_batch])
        inputs, labels = (part.unflatten(0, (-1, micro_batch)) for part in images.take(places))
        gradients = network.gradients(network.theta, inputs, labels)
        here = group[start : start + together]
        sums.index_add_(0, here, gradients)
        norms.index_add_(0, here, gradients.square().sum(1).double())
    return norms.tolist(), sums, torch.bincount(group).tolist()


def noise_statistics(norms: float, sum_norm: float, count: int, micro_batch: int) -> dict[str, float]:
    """The six numbers from Σ_B ‖g_B‖² and ‖Σ_B g_B‖² over `count` micro-batches; see `gradient_noise`."""
    b, big = micro_batch, micro_batch * count
    small_norm2, big_norm2 = norms / count, sum_norm / count**2
    covariance = (small_norm2 - big_norm2) / (1 / b - 1 / big)
    signal = (big * big_norm2 - b * small_norm2) / (big - b)
    return {
        "gradient_norm2": big_norm2,
        "micro_batch_gradient_norm2": small_norm2,
        "gradient_covariance_trace": covariance,
        "gradient_noise_scale": covariance / signal if signal else math.nan,
        "gradient_signal_to_noise": signal * b / covariance if covariance else math.nan,
        "gradient_mean_to_deviation": math.sqrt(big_norm2 * b / covariance) if covariance > 0 else math.nan,
    }


def jackknife(value: float, without: Sequence[float], sizes: Sequence[int]) -> float | None:
    """Standard error of an estimate from n samples, from the estimates without each of g groups; None if not finite.

        h_j = n/m_j,  τ_j = h_j θ − (h_j − 1) θ_(j),  σ² = (1/g) Σ_j (τ_j − θ_J)² / (h_j − 1),
        θ_J = g θ − Σ_j (1 − m_j/n) θ_(j)

    Args:
        value: θ.
        without: θ_(j).
        sizes: m_j.
    """
    n, g = sum(sizes), len(sizes)
    centre = g * value - sum((1 - m / n) * one for m, one in zip(sizes, without, strict=True))
    variance = 0.0
    for m, one in zip(sizes, without, strict=True):
        h = n / m
        variance += (h * value - (h - 1) * one - centre) ** 2 / (h - 1) / g
    return math.sqrt(variance) if math.isfinite(variance) else None


def _norm2(vector: torch.Tensor) -> float:
    return vector.square().sum().item()
