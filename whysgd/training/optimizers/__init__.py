"""Optimizers, one file each: `optimizer(theta, state, gradient, lr, settings)` makes one step in place.

theta (seeds, P) holds the parameters of all seeds and `gradient` has its shape. `state` is a dictionary of tensors
of that shape, empty before the first step; the optimizer keeps in it what it remembers, and checkpoints save it. The
function has the name of its file.
"""

from collections.abc import Callable
from functools import partial
from inspect import Parameter, signature

from whysgd.errors import UserError
from whysgd.study.registry import find, make
from whysgd.study.spec import RunSpec


def optimizer_of(spec: RunSpec) -> Callable:
    """Return the optimizer of a run, as a function of θ, its state, the gradient and the learning rate."""
    own = {key: getattr(spec, key) for key in ("momentum", "nesterov", "weight_decay")}
    settings = spec.optimizer or make("optimizer", "sgd", **own)
    function = find("optimizer", settings.name)
    if isinstance(function, type):
        if signature(function.step).parameters["closure"].default is Parameter.empty:
            raise UserError(f"optimizer = {settings.name!r}: calls the loss several times in a step; not supported")
        from whysgd.training.optimizers._torch import step

        return partial(step, target=function, settings=settings)
    return partial(function, settings=settings)
