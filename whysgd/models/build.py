"""Building a network by name, with weights from a stream of the run's own."""

import torch
from torch import nn

from whysgd.errors import UserError
from whysgd.models.catalog import CATALOG
from whysgd.models.densenet import DenseNet
from whysgd.models.resnet import ResNet
from whysgd.models.vgg import VGG
from whysgd.streams import stream

FAMILIES = {"resnet": ResNet, "densenet": DenseNet, "vgg": VGG}


def build_model(name: str, channels: int, classes: int, seed: int) -> nn.Module:
    """The network `name` in fp32 on the CPU, its weights a function of the seed alone.

    Raises:
        UserError: no such network.
    """
    if name not in CATALOG:
        raise UserError(f"model = {name!r}: no such network; allowed: {', '.join(CATALOG)}")
    family, arguments = CATALOG[name]
    model = FAMILIES[family](channels, classes, **arguments)
    initialize(model, seed)
    return model


def initialize(model: nn.Module, seed: int) -> None:
    """Set all weights and buffers in place.

    Convolutions: normal with standard deviation √(2/fan_out) (He et al. 2015, as in torchvision's
    ResNets and the published code); linear layers: uniform in ±1/√fan_in (torch's default); batch
    norm: weight 1, bias 0, also the last one of a residual block.

    Raises:
        TypeError: a layer of another kind has parameters; nothing may stay as memory happened to be.
    """
    random = stream(seed, "init")
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels * module.kernel_size[0] * module.kernel_size[1] // module.groups
            _fill(module.weight, random.standard_normal(module.weight.shape) * (2 / fan_out) ** 0.5)
            if module.bias is not None:
                _fill(module.bias, 0.0)
        elif isinstance(module, nn.Linear):
            bound = module.in_features**-0.5
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
