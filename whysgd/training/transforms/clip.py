"""Clipping to a largest norm."""

from typing import Literal

from whysgd.study.settings import MethodSettings, Positive


class ClipSettings(MethodSettings):
    """Let no gradient be longer than a limit."""

    limit: Positive
    """The largest norm that passes."""
    norm: Literal["l2", "max"] = "l2"
    """The L2 norm, or the largest entry."""


def clip(gradient, context, settings: ClipSettings):
    """g ← g · limit / (‖g‖ + 1e-6) if ‖g‖ > limit, else g unchanged; the history says which.

    Source: geiping2022, with the constant of torch.nn.utils.clip_grad_norm_.
    """
    norm = context.norm if settings.norm == "l2" else gradient.abs().amax(1)
    context.line["clipped"] = norm > settings.limit
    return gradient * (settings.limit / (norm + 1e-6)).where(norm > settings.limit, 1.0)[:, None]
