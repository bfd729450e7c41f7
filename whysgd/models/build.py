"""Building a network by name, with weights from a stream of the run's own."""

import inspect
from functools import cache

import torch
from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from whysgd.errors import UserError
from whysgd.streams import stream
from whysgd.study.networks import check_parameters
from whysgd.study.registry import find, network, problem


def build_model(name: str, channels: int, classes: int, seed: int, size: int = 32) -> nn.Module:
    """The network `name` in fp32 on the CPU, its weights a function of the seed alone.

    Args:
        name: a network of `whysgd.models`, or a dotted path to a callable that returns an nn.Module. It is called with
            those of channels, classes, num_classes and size that it takes, and its own initial weights are kept.
        channels: of the images.
        classes: number of logits.
        seed: of the run.
        size: height and width of the images.

    Raises:
        UserError: no such network, or not for images of this size.
    """
    if ":" in name:
        return _foreign(name, {"channels": channels, "classes": classes, "num_classes": classes, "size": size}, seed)
    _check(name, channels, classes, size)
    model = find("network", name)(channels, classes, size, **network(name)[1])
    initialize(model, seed, getattr(model, "torch_default", False))
    return model


@cache
def _check(name: str, channels: int, classes: int, size: int) -> None:
    """Try a network on the meta device, where nothing is computed."""
    found = network(name)
    if found is None:
        raise UserError(f"model = {name!r}: no such network; {problem('network', name)}")
    with torch.device("meta"):
        model = find("network", name)(channels, classes, size, **found[1])
        check_parameters(name, sum(parameter.numel() for parameter in model.parameters()))
        try:
            model(torch.empty(2, channels, size, size))
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
    if any(isinstance(module, _DropoutNd) and module.p > 0 for module in model.modules()):
        raise UserError(f"model = {name!r}: has dropout, whose draws would not be those of the run's seed; set it to 0")
    return model.float()


def initialize(model: nn.Module, seed: int, torch_default: bool = False) -> None:
    """Set all weights and buffers in place.

    Convolutions: normal with standard deviation √(2/fan_out) (He et al. 2015, as in torchvision's
    ResNets and the published code), biases 0; linear layers: uniform in ±1/√fan_in (torch's default), biases
    too; batch norm: weight 1, bias 0, also the last one of a residual block.

    Args:
        model: a network of `whysgd.models.layers`.
        seed: of the run.
        torch_default: set convolutions as linear layers are set, which is torch's default. A network asks for
            it by an attribute of this name.

    Raises:
        TypeError: a layer of another kind has parameters; nothing may stay as memory happened to be.
    """
    random = stream(seed, "init")
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and not torch_default:
            fan_out = module.out_channels * module.kernel_size[0] * module.kernel_size[1] // module.groups
            _fill(module.weight, random.standard_normal(module.weight.shape) * (2 / fan_out) ** 0.5)
            if module.bias is not None:
                _fill(module.bias, 0.0)
        elif isinstance(module, nn.Conv2d | nn.Linear):
            fan_in = module.weight[0].numel()
            bound = fan_in**-0.5
            for parameter in module.parameters():
                _fill(parameter, random.uniform(-bound, bound, parameter.shape))
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            _fill(module.weight, 1.0)
            _fill(module.bias, 0.0)
        elif any(True for _ in module.parameters(recurse=False)):
            raise TypeError(f"no initial weights are known for {type(module).__name__}")


@torch.no_grad()
def _fill(parameter: torch.Tensor, values) -> None:
    parameter.copy_(torch.as_tensor(values, dtype=parameter.dtype))
