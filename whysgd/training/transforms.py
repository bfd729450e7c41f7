"""Transforms: what is done to a step's gradient before the optimizer sees it.

A transform is a function `transform(gradient, context) -> gradient`; `transforms_of` says which ones a run has.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from whysgd.study.spec import RunSpec

# A gradient of norm 0 stays 0, not 0/0.
_TINY = 1e-30


@dataclass(frozen=True)
class Context:
    """What a transform may know.

    Attributes:
        norm: L2 norm of the accumulated gradient, before any transform, a scalar.
        step: number of the step, from 0.
        target: for grafts, the norm of another gradient, a scalar: of one micro-batch at the same θ, or of another run
            at the same step.
    """

    norm: torch.Tensor
    step: int
    target: torch.Tensor | None = None


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


def graft(gradient: torch.Tensor, context: Context) -> torch.Tensor:
    """g ← g · ‖g_SB‖ / ‖g‖: the direction of the large batch with the length of a small one's gradient.

    IterGraft: g_SB is the gradient of one micro-batch of the step, at the same θ. ExterGraft: ‖g_SB‖ is the norm that a
    finished small-batch run with the same seed had at the same step.

    Args:
        gradient: all parameters' gradients in one vector (P,).
        context: has its norm, and ‖g_SB‖ as the target.

    Source: Novack et al. 2023, section 4; Agarwal et al. 2020 for the name.
    """
    return gradient * (context.target / context.norm.clamp_min(_TINY))


def normalize(gradient: torch.Tensor, context: Context) -> torch.Tensor:
    """NGD: g ← g / ‖g‖.

    Arguments and source as for `graft`; there is no target.
    """
    return gradient / context.norm.clamp_min(_TINY)


TRANSFORMS: dict[str, Transform] = {"iter_graft": graft, "exter_graft": graft, "normalize": normalize}


def transforms_of(spec: RunSpec) -> list[Transform]:
    """The run's transforms, in order."""
    named = [TRANSFORMS[spec.transform.name]] if spec.transform else []
    return named + ([partial(clip, limit=spec.clip)] if spec.clip is not None else [])
