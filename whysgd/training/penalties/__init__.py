"""Penalties λR, one file each: `penalty(micro_batches, settings)` returns the gradient (K, P) and the value (K,).

`micro_batches` is a `whysgd.training.micro_batches.MicroBatches`; the values are in nats. The function has the name of
its file. It may have two attributes. `draw(random, count, images, classes)` returns an array with a row for each of
`count` micro-batches of at most `images` images; the rows come back as `micro_batches.draws`, and `random` is the
stream of (seed, name of the penalty, step). `needs_full_gradient(settings)` says whether `micro_batches.full_gradient`,
the gradient of the whole step without penalty, must be computed beforehand.
"""

from functools import partial
from importlib import import_module

NAMES = ("gradient_norm", "micro_batch_gradient_norm", "fisher_trace", "average_jacobian", "unit_jacobian")


def penalty_of(settings) -> partial:
    """Return the penalty that settings with a `name` ask for, as a function of the micro-batches alone."""
    if settings.name not in NAMES:
        raise ValueError(f"penalty.name = {settings.name!r}: allowed: {', '.join(NAMES)}")
    function = getattr(import_module(f"{__name__}.{settings.name}"), settings.name)
    return partial(function, settings=settings)
