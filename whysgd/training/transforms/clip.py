"""Clipping of the gradient's norm."""

from typing import TYPE_CHECKING

from whysgd.study.settings import MethodSettings, Positive

if TYPE_CHECKING:
    import torch

    from whysgd.training.transforms import Context


class Clip(MethodSettings):
    """Let no gradient be longer than a limit."""

    limit: Positive
    """The largest norm that passes."""


def clip(gradient: "torch.Tensor", context: "Context", settings: Clip) -> "torch.Tensor":
    """Return g · limit / (‖g‖ + 1e-6) if ‖g‖ > limit, else g.

    Source: geiping2022, with the constant of torch.nn.utils.clip_grad_norm_.
    """
    import torch

    return gradient * torch.where(context.norm > settings.limit, settings.limit / (context.norm + 1e-6), 1.0)
