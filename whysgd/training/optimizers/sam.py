"""Sharpness-aware minimization."""

from whysgd.study.settings import Positive
from whysgd.training.optimizers import Losses
from whysgd.training.optimizers.sgd import SGDSettings, sgd

LABEL = "SAM"


class SAMSettings(SGDSettings):
    """SGD with the gradient at a point uphill."""

    rho: Positive = 0.05
    """Distance to the point."""


def sam(theta, state: dict, gradient, lr: float, settings: SAMSettings, layout, losses: Losses) -> None:
    """Make a step of SGD from θ with the gradient of the same micro-batches at θ + ρ g/‖g‖.

    Source: Foret et al. 2021 (arXiv 2010.01412); as in geiping2022's code, both gradients are clipped.
    """
    uphill = theta + gradient * (settings.rho / (gradient.norm(dim=1) + 1e-12))[:, None]
    sgd(theta, state, losses.at(uphill, slice(None))[1], lr, settings, layout)
