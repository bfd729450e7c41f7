"""The loss around a network's weights, on a line or a plane."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch

from whysgd.measures.images import Images
from whysgd.measures.network import Network, finite
from whysgd.measures.untouched import untouched
from whysgd.training.optimizers import decay_term

Point = tuple[float, ...]


class FullLoss(NamedTuple):
    """What the full loss adds.

    Attributes:
        decay: the weight decay, and the parts of names that it exempts; see `whysgd.training.optimizers.decay_of`.
        block_strength: of the published penalty.
        lr, final_lr: the learning rate at its peak, and at the run's end.
    """

    decay: tuple[float, tuple[str, ...]] = (0.0, ())
    block_strength: float = 0.0
    lr: float = 0.0
    final_lr: float = 0.0


NOTHING_MORE = FullLoss()


def landscape(
    model: torch.nn.Module,
    images: Images,
    points: Sequence[Point],
    directions: Sequence[Mapping[str, torch.Tensor]],
    full: FullLoss = NOTHING_MORE,
    micro_batch: int = 128,
    training: bool = False,
) -> list[dict[str, float]]:
    """Loss and accuracy at θ + α d_1, or θ + α d_1 + β d_2; and the "full loss":

        loss + (weight_decay/2) ‖θ‖² + (lr/4) · block_strength · mean_B ‖g_B‖²

    with the gradients g_B of consecutive micro-batches, in the images' order; a last one that is not full is left out,
    as in training. Every point is computed by itself, so that a grid can be split as one likes.

    Args:
        points: (α,) or (α, β) each.
        directions: d_1, or d_1 and d_2, tensors by name; see `whysgd.measures.directions.filter_normalized`.
        full: of the run; with block_strength = 0 no gradients are computed. The released code takes the last learning
            rate from its checkpoint. It refuses an acc_strength here; its term is left out.
        micro_batch: images of a micro-batch.
        training: take full micro-batches in training mode. Otherwise it is evaluation mode.

    Returns:
        for each point `alpha`, `beta` (0 on a line), `loss` and `full_loss` in nats, `accuracy` in percent, `penalty`,
        the last term of the full loss, and `final_full_loss`, with `final_lr` in place of `lr`. What is not finite is
        nan.

    Raises:
        ValueError: a point with more or fewer coordinates than there are directions, or no full micro-batch.

    Source: Li et al. 2018 (arXiv 1712.09913); the full loss is geiping2022's.
    """
    wrong = [point for point in points if len(point) != len(directions)]
    if wrong or len(directions) not in (1, 2):
        raise ValueError(f"point {(wrong or points)[0]}, {len(directions)} directions: one or two coordinates, as many")
    if (full.block_strength or training) and len(images) < micro_batch:
        raise ValueError(f"micro_batch = {micro_batch}: {len(images)} images do not fill a micro-batch")
    with untouched(model):
        if training:
            model.train()
            whole = images.first(len(images) // micro_batch * micro_batch)
            images = Images(whole.images, whole.labels, whole.normalize, micro_batch, whole.seed, whole.loss)
        network = Network(model, images.loss)
        ways = torch.stack([network.layout.vector(direction).to(network.theta) for direction in directions])
        lines = []
        for point in points:
            theta = network.theta + torch.tensor(point, dtype=ways.dtype, device=ways.device) @ ways
            losses, correct = network.evaluate(theta, images)
            loss, strength = losses.mean().item(), 0.0
            if full.block_strength:
                strength = full.block_strength / 4 * mean_gradient_norm2(network, theta, images, micro_batch)
            decayed = loss + decay_term(theta[None], network.layout, *full.decay).item()
            lines.append(
                {
                    "alpha": point[0],
                    "beta": point[1] if len(point) > 1 else 0.0,
                    "loss": finite(loss),
                    "accuracy": 100 * correct.mean().item(),
                    "penalty": finite(full.lr * strength),
                    "full_loss": finite(decayed + full.lr * strength),
                    "final_full_loss": finite(decayed + full.final_lr * strength),
                }
            )
    return lines


def mean_gradient_norm2(network: Network, theta: torch.Tensor, images: Images, micro_batch: int) -> float:
    """mean_B ‖g_B‖² at θ (P,) over full consecutive micro-batches."""
    count, total = len(images) // micro_batch, 0.0
    whole = images.first(count * micro_batch)
    for inputs, labels in whole.batches(micro_batch * network.micro_batches_at_once(micro_batch, images)):
        gradients = network.gradients(theta, *(part.unflatten(0, (-1, micro_batch)) for part in (inputs, labels)))
        total += gradients.square().sum().item()
    return total / count


def grid(kind: str, points: int, alpha: Point = (-1, 1), beta: Point = (-1, 1)) -> list[Point]:
    """Points at equal distances between these ends: `points` of a "line", or points × points of a "plane", α first.

    Raises:
        ValueError: another kind, or fewer than two points.
    """
    if points < 2 or kind not in ("line", "plane"):
        raise ValueError(f"kind = {kind!r}, points = {points}: allowed: line, plane, with two points or more")
    # Symmetric ends give symmetric points, to the last digit, with one at 0 itself if their number is odd.
    first, second = (
        [(low * (points - 1 - i) + high * i) / (points - 1) for i in range(points)] for low, high in (alpha, beta)
    )
    return [(a,) for a in first] if kind == "line" else [(a, b) for a in first for b in second]


def chunk(points: Sequence[Point], index: int, of: int) -> Sequence[Point]:
    """Part number `index` of so many contiguous parts, from 0; put together in order they are the whole.

    Raises:
        ValueError: no such part.
    """
    if not 0 <= index < of:
        raise ValueError(f"part {index} of {of}: allowed: 0 to {of - 1}")
    return points[len(points) * index // of : len(points) * (index + 1) // of]
