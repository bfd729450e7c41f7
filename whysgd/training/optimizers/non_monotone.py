"""Gradient descent with a non-monotone line search."""

from whysgd.training.optimizers import Losses
from whysgd.training.optimizers._recent import RecentSettings, limit_of, recent, remember
from whysgd.training.optimizers.sgd import decayed, momentum_direction

# What a step is multiplied by, and how often at most.
FACTOR, TRIALS = 0.25, 10


def non_monotone(theta, state: dict, gradient, lr: float, settings: RecentSettings, layout, losses: Losses) -> None:
    """Make the first step lr · d/4^k with L(θ − lr · d/4^k) below the largest of the last losses.

    d is SGD's direction, and the loss of θ is one of the last. There is no limit until they are all there.

    Source: Grippo, Lampariello and Lucidi 1986. geiping2022's code compares the loss before the step, and shortens it
    with gradients of the points that it left.
    """
    values = recent(state, gradient, settings.interval)
    remember(state, values, losses.now)
    limit = limit_of(state["recent"])
    direction = momentum_direction(state, decayed(gradient, theta, settings, layout), settings)
    for row in range(len(theta)):
        own, length = slice(row, row + 1), lr
        for _ in range(TRIALS if limit[row].isfinite() and lr else 0):
            if losses.at(theta[own] - length * direction[own], own)[0] < limit[row]:
                break
            length *= FACTOR
        theta[row].add_(direction[row], alpha=-length)


non_monotone.full_batch = True
