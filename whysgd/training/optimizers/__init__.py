"""Optimizers, one file each: `optimizer(theta, state, gradient, lr, settings)` makes one step in place.

theta (seeds, P) holds the parameters of all seeds and `gradient` has its shape. `state` is a dictionary of tensors with
a row for each seed, empty before the first step; the optimizer keeps in it what it remembers, and checkpoints save it.
The function has the name of its file.

It may have two more arguments: `layout`, the names and places of parameters in θ (`objective.ParameterVector`), and
`losses`, a `Losses` of the step. `full_batch = True` on the function says that it compares losses, or goes row by row,
which only the full batch without transforms allows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from inspect import Parameter, signature

from whysgd.errors import UserError
from whysgd.study.registry import find, make
from whysgd.study.spec import RunSpec


@dataclass(frozen=True)
class Losses:
    """The loss of a step as a function of θ, over all of its micro-batches, penalty included.

    Attributes:
        now: the losses (seeds,) at θ.
        at: `at(theta, rows)` returns losses and gradients, after the transforms, of the seeds of a slice at other θ;
            batch norm's running statistics stay as they are.
    """

    now: object
    at: Callable


def decay_of(spec: RunSpec) -> tuple[float, tuple[str, ...]]:
    """Return the weight decay λ whose gradient λθ a run's optimizer adds, and the parts of names that it exempts.

    It is 0 for a class of torch.optim, which may decay apart from the gradient.
    """
    settings = spec.optimizer or spec
    own = spec.optimizer is None or not isinstance(find("optimizer", settings.name), type)
    return getattr(settings, "weight_decay", 0.0) * own, getattr(settings, "exempt", ())


def decay_term(theta, layout, decay: float, exempt: Sequence[str] = ()):
    """Return (λ/2) ‖θ‖² (seeds,), without the parameters that are exempt, for θ (seeds, P)."""
    if not exempt or not decay:
        return decay / 2 * theta.square().sum(1)
    parts = (part for name, part in layout.views(theta).items() if not any(word in name for word in exempt))
    return decay / 2 * sum((part.square().flatten(1).sum(1) for part in parts), theta.new_zeros(len(theta)))


def optimizer_of(spec: RunSpec, layout=None) -> Callable:
    """Return the optimizer of a run, as a function of θ, its state, the gradient, the learning rate and `losses`.

    Raises:
        UserError: it does not fit the run.
    """
    own = {key: getattr(spec, key) for key in ("momentum", "nesterov", "weight_decay")}
    settings = spec.optimizer or make("optimizer", "sgd", **own)
    function = find("optimizer", settings.name)
    if isinstance(function, type):
        if signature(function.step).parameters["closure"].default is Parameter.empty:
            raise UserError(f"optimizer = {settings.name!r}: calls the loss several times in a step; allowed: lbfgs")
        from whysgd.training.optimizers._torch import step

        function = partial(step, target=function)
    where, given = f"{spec.run}: optimizer = {settings.name!r}", signature(function).parameters
    changed = spec.clip or spec.micro_batch_clip or spec.transform or spec.switch
    if getattr(function, "full_batch", False) and (not spec.full_batch or changed or spec.averaging != "mean"):
        without = "without clip, micro_batch_clip, transform and switch"
        raise UserError(f"{where}: compares losses; allowed only with batch: all and averaging: mean, {without}")
    if "losses" in given and getattr(spec.penalty, "sample", None):
        raise UserError(f"{where}: needs a penalty of all micro-batches; allowed: sample: null")
    function = partial(function, settings=settings, **({"layout": layout} if "layout" in given else {}))
    if "losses" in given:
        return function
    return lambda theta, state, gradient, lr, losses=None: function(theta, state, gradient, lr)
