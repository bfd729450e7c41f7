"""Clipping to a largest norm."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Clip:
    """The largest norm that passes."""

    limit: float
    name: str = "clip"


def clip(gradient, context, settings: Clip):
    """g ← g · limit / (‖g‖ + 1e-6) if ‖g‖ > limit, else g unchanged.

    Source: geiping2022, with the constant of torch.nn.utils.clip_grad_norm_.
    """
    scale = (settings.limit / (context.norm + 1e-6)).where(context.norm > settings.limit, 1.0)
    return gradient * scale[:, None]
