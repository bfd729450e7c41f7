"""Building a network by name, with weights from a stream of the run's own."""

import copy
import inspect
import math
from collections import Counter
from functools import cache, partial

import torch
from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from whysgd.errors import UserError
from whysgd.models.layers import Dropout, dropout_keys
from whysgd.streams import stream
from whysgd.study.networks import check_parameters
from whysgd.study.registry import find, network, problem

# How weights and biases are drawn, first of convolutions, then of linear maps; see `initialize`.
INITS = {
    "torch": (("uniform", "uniform"), ("uniform", "uniform")),
    "he_fan_out": (("fan_out", "zero"), ("uniform", "uniform")),
    "he_fan_in": (("fan_in", "zero"), ("uniform", "zero")),
    "vgg": (("fan_out", "zero"), ("small", "zero")),
}


def build_model(
    name: str, channels: int, classes: int, seed: int, size: int = 32, init: str | None = None
) -> nn.Module:
    """The network `name` in fp32 on the CPU, its weights a function of the seed alone.

    Args:
        name: a network of `whysgd.models`, or a dotted path to a callable that returns an nn.Module. It is called with
            those of channels, classes, num_classes and size that it takes, and its own initial weights are kept.
        channels: of the images.
        classes: number of logits.
        seed: of the run.
        size: height and width of the images.
        init: how its weights are drawn, see `initialize`; None: as the network says by its attribute `init`. A dotted
            path has no choice.

    Raises:
        UserError: no such network, or not for images of this size.
    """
    if ":" in name:
        return _foreign(name, {"channels": channels, "classes": classes, "num_classes": classes, "size": size}, seed)
    _check(name, channels, classes, size)
    model = find("network", name)(channels, classes, size, **network(name)[1])
    initialize(model, seed, init or getattr(model, "init", "he_fan_out"))
    return model


@cache
def _check(name: str, channels: int, classes: int, size: int) -> None:
    """Refuse a network that is not there, is too large, or does not take images of this size."""
    found = network(name)
    if found is None:
        raise UserError(f"model = {name!r}: no such network; {problem('network', name)}")
    make = partial(find("network", name), channels, classes, size, **found[1])
    try:
        # On the meta device nothing is allocated. Nothing is computed there, either: the first operation on it would
        # load torch's compiler, 1.4 of the 2 seconds that a short job takes.
        with torch.device("meta"):
            check_parameters(name, sum(parameter.numel() for parameter in make().parameters()))
        with torch.no_grad():
            make().eval()(torch.zeros(2, channels, size, size))
    except ValueError as error:
        raise UserError(f"model = {name!r}: cannot be built: {error}") from None
    except RuntimeError as error:
        why = str(error).splitlines()[0]
        raise UserError(f"model = {name!r}: is not for images of {size}×{size} ({why})") from None


def _foreign(name: str, offered: dict, seed: int) -> nn.Module:
    """Return the network of a dotted path, its weights drawn as it draws them, from the run's seed."""
    target = find("network", name)
    parameters = inspect.signature(target).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        parameters = {**parameters, "num_classes": None}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(stream(seed, "init").integers(1 << 62)))
        model = target(**{key: value for key, value in offered.items() if key in parameters})
    if not isinstance(model, nn.Module):
        raise UserError(f"model = {name!r}: returns a {type(model).__name__}, not an nn.Module")
    dropouts = [key for key, module in model.named_modules() if type(module) is nn.Dropout]
    for layer, key in enumerate(dropouts):
        # Its draws become those of the run's seed.
        model.set_submodule(key, Dropout(model.get_submodule(key).p, layer))
    if any(isinstance(module, _DropoutNd) and module.p > 0 for module in model.modules()):
        raise UserError(f"model = {name!r}: allowed is torch.nn.Dropout, no other kind of dropout; set it to 0")
    shape = (2, offered["channels"], offered["size"], offered["size"])
    _check_draws(name, model.float(), offered["classes"], shape)
    return model


def _check_draws(name: str, model: nn.Module, classes: int, shape: tuple[int, ...]) -> None:
    """Refuse a network of a dotted path that has no logits, draws by itself, or drops twice in one layer.

    A layer drops the same in every pass of a step, so it would in two places of one pass, too.
    """
    images, calls = torch.linspace(-1, 1, math.prod(shape)).view(shape), Counter()
    try:
        copied = copy.deepcopy(model).train()
        for module in copied.modules():
            if isinstance(module, Dropout):
                module.register_forward_hook(lambda layer, *_: calls.update([layer.layer]))
        with torch.no_grad(), torch.random.fork_rng(devices=[]), dropout_keys(torch.zeros(1, dtype=torch.int64)):
            before = torch.get_rng_state()
            first, second = copied(images), copied(images)
            drawn = not torch.equal(before, torch.get_rng_state())
    except (RuntimeError, ValueError) as error:
        why = str(error).splitlines()[0]
        raise UserError(f"model = {name!r}: is not for images of {shape[2]}×{shape[3]} ({why})") from None
    if not isinstance(first, torch.Tensor) or first.shape != (shape[0], classes):
        returned = tuple(first.shape) if isinstance(first, torch.Tensor) else type(first).__name__
        raise UserError(f"model = {name!r}: returns {returned} in training; needed are logits ({shape[0]}, {classes})")
    # A small probability may drop nothing here, and draws all the same; others draw without torch's generator.
    if drawn or not torch.allclose(first, second, equal_nan=True):
        raise UserError(f"model = {name!r}: draws random numbers of its own; dropout must be torch.nn.Dropout layers")
    if max(calls.values(), default=0) > 2:
        raise UserError(f"model = {name!r}: drops twice in one layer; each place needs a torch.nn.Dropout of its own")


def initialize(model: nn.Module, seed: int, init: str = "he_fan_out") -> None:
    """Set all weights and buffers in place.

    Norm layers: weight 1, bias 0, also the last one of a residual block. Of the others, by `init`:

    - "torch": all uniform in ±1/√fan_in, torch's default (novack2023's ResNet-18, simsekli2019).
    - "he_fan_out": convolutions normal with standard deviation √(2/fan_out) (He et al. 2015), their biases 0; linear
      maps as torch has them (geiping2022's residual networks, novack2023's VGG-11).
    - "he_fan_in": convolutions normal with √(2/fan_in); biases 0; linear weights as torch has them (geiping2022's
      DenseNets).
    - "vgg": convolutions as in he_fan_out; linear weights normal with 0.01; biases 0 (torchvision's VGGs).

    Args:
        model: a network of `whysgd.models.layers`.
        seed: of the run.
        init: one of these names.

    Raises:
        TypeError: a layer of another kind has parameters; nothing may stay as memory happened to be.
    """
    random = stream(seed, "init")
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            shape, convolves = module.weight.shape, isinstance(module, nn.Conv2d)
            fan_in, fan_out = shape[1:].numel(), shape[0] * shape[2:].numel() // (module.groups if convolves else 1)
            deviations = {"fan_out": (2 / fan_out) ** 0.5, "fan_in": (2 / fan_in) ** 0.5, "small": 0.01}
            for parameter, rule in zip((module.weight, module.bias), INITS[init][0 if convolves else 1], strict=True):
                if parameter is None:
                    continue
                if rule in deviations:
                    _fill(parameter, random.standard_normal(shape) * deviations[rule])
                else:
                    bound = fan_in**-0.5 if rule == "uniform" else 0
                    _fill(parameter, random.uniform(-bound, bound, parameter.shape) if bound else 0.0)
        elif isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
            if isinstance(module, nn.BatchNorm2d):
                module.reset_running_stats()
            _fill(module.weight, 1.0)
            _fill(module.bias, 0.0)
        elif any(True for _ in module.parameters(recurse=False)):
            raise TypeError(f"no initial weights are known for {type(module).__name__}")


@torch.no_grad()
def _fill(parameter: torch.Tensor, values) -> None:
    parameter.copy_(torch.as_tensor(values, dtype=parameter.dtype))
