"""Penalties, one file each: a function `penalty(block, settings) -> (gradient, value)` of λR_B, and its settings.

Importing this loads no torch; the functions import it when they are called.
"""

from whysgd.study.settings import Count, MethodSettings, NotNegative


class PenaltySettings(MethodSettings):
    """λR, R averaged over micro-batches, with its exact gradient."""

    strength: NotNegative
    """λ."""
    sample: Count | None = None
    """Take R from one micro-batch of so many images, drawn from those of the step, instead of from all."""


def needs_graph(settings: MethodSettings) -> bool:
    """Return whether `Block.g` must be differentiable."""
    return getattr(settings, "exact", True) and settings.name not in (
        "fisher_trace",
        "average_jacobian",
        "unit_jacobian",
    )


def needs_logits(settings: MethodSettings) -> bool:
    """Return whether `Block.logits` must be there, and differentiable."""
    return settings.name != "gradient_norm"


def needs_pre_gradient(settings: MethodSettings) -> bool:
    """Return whether a pass over all blocks must be made beforehand."""
    return getattr(settings, "acc_strength", 0) != 0
