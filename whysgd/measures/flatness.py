"""Flatness: how far one can walk from the weights in a random direction until the loss has clearly risen."""

import torch

from whysgd.measures.directions import filter_normalized
from whysgd.measures.estimate import Estimate, mean_of
from whysgd.measures.images import Images
from whysgd.measures.network import Network
from whysgd.measures.untouched import untouched

QUANTITIES = {
    "flatness": ("flatness", "filter norms", "higher"),
    "released_flatness": ("flatness as released", "norm of θ", "higher"),
}


def flatness(
    model: torch.nn.Module,
    images: Images,
    threshold: float = 1.0,
    step: float = 0.1,
    directions: int = 5,
    limit: float = 5.0,
    first: int | None = None,
) -> dict[str, Estimate]:
    """How far one can walk along random directions until the mean training loss has clearly risen, by two definitions.

        flatness           t = min { t = step, 2 step, … : L(θ + t d) ≥ L(θ) + threshold },  d filter-normalized
        released_flatness  ‖d‖ · min { n = 0, 1, … : L(θ + n step d) > threshold }

    The first is in units of the filters' norms, and compares the loss with where it begins. The second, of the released
    code, is in the unit of θ, counts steps without their length, and compares the loss itself. A loss that is not
    finite has risen.

    Args:
        threshold: in nats.
        step, limit: t goes in such steps, and to the limit at most: a distance beyond it counts as the limit.
        directions: how many, each only in its own sense, from the streams (seed, "direction", 0), (…, 1), ….
        first: use only the first so many images.

    Returns:
        `flatness` and `released_flatness`, means with s/√n over directions. nan if the loss at θ is not finite.

    Raises:
        ValueError: a threshold, step or number of directions that is not above 0, or a limit below a step.

    Source: geiping2022 and its released code (Huang et al. 2020, Understanding generalization through visualizations,
        arXiv 1906.03291).
    """
    if not (threshold > 0 and step > 0 and directions >= 1 and limit >= step):
        raise ValueError(
            f"threshold = {threshold}, step = {step}, directions = {directions}, limit = {limit}: "
            "must be above 0, and limit not below step"
        )
    images = images if first is None else images.first(first)
    with untouched(model):
        network = Network(model, images.loss)
        start = network.mean_loss(network.theta, images)
        if start != start:
            return dict.fromkeys(QUANTITIES, mean_of([start] * directions))
        ways = (network.layout.vector(filter_normalized(model, images.seed, i)) for i in range(directions))
        walks = [_walk(network, way, images, start, threshold, step, limit) for way in ways]
    return {name: mean_of(found) for name, found in zip(QUANTITIES, zip(*walks, strict=True), strict=True)}


def _walk(
    network: Network, way: torch.Tensor, images: Images, start: float, threshold: float, step: float, limit: float
):
    """Both distances along a direction (P,), each at the limit if the loss stays low so far."""
    last = round(limit / step)
    risen, above = None, 0 if start > threshold else None
    for count in range(1, last + 1):
        loss = network.mean_loss(network.theta + count * step * way, images)
        # Not only a higher loss ends the walk: nan does, too.
        above = count if above is None and not loss <= threshold else above
        if not loss < start + threshold:
            risen = count
            break
    distance = limit if risen is None else min(risen * step, limit)
    return distance, way.norm().item() * (last if above is None else above)
