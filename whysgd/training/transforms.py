"""Transforms: what is done to a step's gradient before the optimizer sees it.

A transform is a function `transform(gradient, context) -> gradient`; `transforms_of` says which ones a run has.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from whysgd.spec import RunSpec


@dataclass(frozen=True)
class Context:
    """What a transform may know.

    Attributes:
        norm: L2 norm of the accumulated gradient, before any transform, a scalar.
        step: number of the step, from 0.
    """

    norm: torch.Tensor
    step: int


Transform = Callable[[torch.Tensor, Context], torch.Tensor]


def clip(gradient: torch.Tensor, context: Context, limit: float) -> torch.Tensor:
    """g ← g · limit / (‖g‖ + 1e-6) if ‖g‖ > limit, else g unchanged.

    Args:
        gradient: all parameters' gradients in one vector (P,).
        context: has its norm.
        limit: the largest norm that passes.

    Source: geiping2022, with the constant of torch.nn.utils.clip_grad_norm_.
    """
    return gradient * torch.where(context.norm > limit, limit / (context.norm + 1e-6), 1.0)


def transforms_of(spec: RunSpec) -> list[Transform]:
    """The run's transforms, in order."""
    return [partial(clip, limit=spec.clip)] if spec.clip is not None else []
