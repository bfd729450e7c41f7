"""Clipping to a largest norm."""

from whysgd.study.settings import MethodSettings, Positive


class ClipSettings(MethodSettings):
    """Let no gradient be longer than a limit."""

    limit: Positive
    """The largest norm that passes."""


def clip(gradient, context, settings: ClipSettings):
    """g ← g · limit / (‖g‖ + 1e-6) if ‖g‖ > limit, else g unchanged.

    Source: geiping2022, with the constant of torch.nn.utils.clip_grad_norm_.
    """
    scale = (settings.limit / (context.norm + 1e-6)).where(context.norm > settings.limit, 1.0)
    return gradient * scale[:, None]
