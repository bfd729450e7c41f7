"""Gradient descent that clips by its own history."""

from whysgd.training.optimizers._recent import RecentSettings, limit_of, recent, remember
from whysgd.training.optimizers.sgd import sgd


def clip_by_history(theta, state: dict, gradient, lr: float, settings: RecentSettings, layout) -> None:
    """Make a step of SGD with g ← g · c/(‖g‖ + 1e-6) if ‖g‖ > c, the largest norm, clipped, of the last steps.

    Source: geiping2022's code, which by mistake scales the parameters in place of the gradients, and makes no step
    where it does not clip.
    """
    norm, values = gradient.norm(dim=1), recent(state, gradient, settings.interval)
    limit = limit_of(values)
    scale = (limit / (norm + 1e-6)).where(norm > limit, 1.0)
    remember(state, values, norm.minimum(limit))
    sgd(theta, state, gradient * scale[:, None], lr, settings, layout)
