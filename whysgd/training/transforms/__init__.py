"""Transforms, one file each: `transform(gradient, context, settings)` returns the gradient that the optimizer sees.

The gradient (seeds, P) is that of a step, penalty included. The function has the name of its file.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from whysgd.study.registry import find, make

# A gradient of norm 0 stays 0, not 0/0.
TINY = 1e-30


@dataclass(frozen=True)
class Context:
    """What a transform may know.

    Attributes:
        norm: the L2 norm (seeds,) of the step's gradient, before any transform.
        micro_batch_norm: a function that computes the gradient norm (seeds,) of one micro-batch of the step, drawn at
            random, at the same θ and without penalty.
        reference_norm: the norm (seeds,) that a finished run had at the same step, if one was given.
        theta, layout: θ (seeds, P), and the names and places of parameters in it (`objective.ParameterVector`).
    """

    norm: object
    micro_batch_norm: Callable | None = None
    reference_norm: object = None
    theta: object = None
    layout: object = None


def transforms_of(spec) -> list[partial]:
    """Return the transforms of a run, in order, as functions of gradient and context."""
    chosen = [spec.transform] if spec.transform else []
    chosen += [] if spec.clip is None else [make("transform", "clip", limit=spec.clip)]
    return [partial(find("transform", one.name), settings=one) for one in chosen]
