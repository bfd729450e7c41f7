"""Gradient descent with a non-monotone line search."""

from pydantic import Field

from whysgd.study.settings import Count, Positive
from whysgd.training.optimizers import Losses
from whysgd.training.optimizers._recent import limit_of, recent, remember
from whysgd.training.optimizers.sgd import SGDSettings, decayed, momentum_direction


class NonMonotoneSettings(SGDSettings):
    """SGD that shortens a step until the loss is below the largest of the last ones."""

    interval: Count = 10
    """Losses that are looked back at."""
    factor: Positive = Field(0.25, lt=1)
    """What a step is multiplied by."""
    trials: Count = 10
    """How often, at most."""


def non_monotone(
    theta, state: dict, gradient, lr: float, settings: NonMonotoneSettings, layout, losses: Losses
) -> None:
    """Make the first step lr · factor^k · d with L(θ − lr · factor^k · d) below the largest of the last losses.

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
        for _ in range(settings.trials if limit[row].isfinite() and lr else 0):
            if losses.at(theta[own] - length * direction[own], own)[0] < limit[row]:
                break
            length *= settings.factor
        theta[row].add_(direction[row], alpha=-length)


non_monotone.full_batch = True
