"""Transforms, one file each: a function `transform(gradient, context, settings) -> gradient`, and its settings.

A transform is what is done to a step's gradient before the optimizer sees it. Importing this loads no torch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from whysgd.study.registry import find, make
from whysgd.study.spec import RunSpec

if TYPE_CHECKING:
    import torch

# A gradient of norm 0 stays 0, not 0/0.
TINY = 1e-30


@dataclass(frozen=True)
class Context:
    """What a transform may know.

    Attributes:
        norm: L2 norm of the accumulated gradient, before any transform, a scalar.
        step: number of the step, from 0.
        target: for grafts, the norm of another gradient, a scalar: of one micro-batch at the same θ, or of another run
            at the same step.
    """

    norm: "torch.Tensor"
    step: int
    target: "torch.Tensor | None" = None


def transforms_of(spec: RunSpec) -> list[Callable]:
    """Return the run's transforms, in order, each a function of gradient and context."""
    chosen = [spec.transform] if spec.transform else []
    if spec.clip is not None:
        chosen.append(make("transform", "clip", limit=spec.clip))
    return [partial(find("transform", one.name), settings=one) for one in chosen]
