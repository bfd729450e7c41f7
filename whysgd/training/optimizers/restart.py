"""Gradient descent that restarts its momentum."""

from whysgd.training.optimizers import Losses
from whysgd.training.optimizers._recent import RecentSettings, limit_of, recent, remember
from whysgd.training.optimizers.sgd import sgd


def restart(theta, state: dict, gradient, lr: float, settings: RecentSettings, layout, losses: Losses) -> None:
    """Make a step of SGD, with no momentum from before where the loss is not below the largest of the last ones.

    Only losses below it are remembered.

    Source: geiping2022's code, where it is the "restarting" line search.
    """
    values = recent(state, gradient, settings.interval)
    falls = losses.now < limit_of(values)
    remember(state, values, losses.now, falls)
    if "momentum" in state:
        state["momentum"].mul_(falls[:, None])
    sgd(theta, state, gradient, lr, settings, layout)


restart.full_batch = True
