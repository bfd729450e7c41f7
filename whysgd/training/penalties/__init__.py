"""Penalties λR, one file each: `penalty(micro_batches, settings)` returns the gradient (K, P) and the value (K,).

`micro_batches` is a `whysgd.training.micro_batches.MicroBatches`; the values are in nats. The function has the name of
its file. It may have two attributes. `draw(random, count, images, classes)` returns an array with a row for each of
`count` micro-batches of at most `images` images; the rows come back as `micro_batches.draws`, and `random` is the
stream of (seed, name of the penalty, step). `needs_full_gradient(settings)` says whether `micro_batches.full_gradient`,
the gradient of the whole step without penalty, must be computed beforehand.
"""

from functools import partial

from whysgd.study.registry import find
from whysgd.study.settings import Count, MethodSettings, NotNegative


class PenaltySettings(MethodSettings):
    """λR, R averaged over micro-batches."""

    strength: NotNegative
    """λ."""
    sample: Count | None = None
    """Take R from one micro-batch of so many images, drawn from those of the step, instead of from all."""


def penalty_of(settings: MethodSettings) -> partial:
    """Return the penalty that settings name, as a function of the micro-batches alone."""
    return partial(find("penalty", settings.name), settings=settings)
