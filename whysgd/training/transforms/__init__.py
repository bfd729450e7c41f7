"""Transforms, one file each: `transform(gradient, context, settings)` returns the gradient that the optimizer sees.

The gradient (seeds, P) is that of a step, penalty included, or what the transform before returned. The function has
the name of its file.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from whysgd.study.registry import find, make

# A gradient of norm 0 stays 0, not 0/0.
TINY = 1e-30


@dataclass(frozen=True)
class Context:
    """What a transform may know.

    Attributes:
        norm: the L2 norm (seeds,) of the gradient.
        micro_batch_norm: a function that computes the gradient norm (seeds,) of one micro-batch of the step, drawn at
            random, at the same θ and without penalty.
        reference_norm: the norm (seeds,) that a finished run had at the same step, if one was given.
        theta, layout: θ (seeds, P) before the step, and the names and places of parameters in it
            (`objective.ParameterVector`).
        seeds: the runs' seeds; step: steps made, for random streams.
        line: what the history shall record of the step, by column; transforms may add to it.
    """

    norm: object
    micro_batch_norm: Callable | None = None
    reference_norm: object = None
    theta: object = None
    layout: object = None
    seeds: Sequence[int] = ()
    step: int = 0
    line: dict = field(default_factory=dict)


def transforms_of(spec) -> list[partial]:
    """Return the transforms of a run, in order, as functions of gradient and context."""
    clip, named = (
        clip_of(spec, spec.clip),
        [partial(find("transform", one.name), settings=one) for one in spec.transforms],
    )
    return [*named, clip] if clip else named


def clip_of(spec, limit: float | None) -> partial | None:
    """Return the transform that clips to a limit in the run's norm; None if there is no limit."""
    settings = None if limit is None else make("transform", "clip", limit=limit, norm=spec.clip_norm)
    return settings and partial(find("transform", "clip"), settings=settings)


def transformed(transforms: Sequence[Callable], gradient, context: Context):
    """Return the gradient after all transforms, each with the norm of what the one before returned."""
    for number, transform in enumerate(transforms):
        context = replace(context, norm=gradient.norm(dim=1)) if number else context
        gradient = transform(gradient, context)
    return gradient
