"""Residual networks with the CIFAR stem: 3×3 convolution, no max-pool.

Source: He et al. 2016 (arXiv 1512.03385). In the form of geiping2022, wherever the shape changes the shortcut
is "C" (average pool, then 1×1 convolution, then batch norm); in that of novack2023 it is "B" (1×1 convolution
with the stride, then batch norm). No zero-init of the last norm.
"""

import torch
from torch import nn
from torch.nn import functional as F

from whysgd.models.layers import BatchNorm2d, Conv2d, Linear

# The networks of this file by name, with the arguments of the function below; read without being run.
NETWORKS = {
    "resnet18": {"block": "basic", "depths": (2, 2, 2, 2), "width": 64},
    "resnet34": {"block": "basic", "depths": (3, 4, 6, 3), "width": 64},
    "resnet50": {"block": "bottleneck", "depths": (3, 4, 6, 3), "width": 64},
    "resnet101": {"block": "bottleneck", "depths": (3, 4, 23, 3), "width": 64},
    "resnet152": {"block": "bottleneck", "depths": (3, 8, 36, 3), "width": 64},
    # novack2023's, with strided convolutions as shortcuts.
    "resnet18_conv": {"block": "basic", "depths": (2, 2, 2, 2), "width": 64, "shortcut": "B"},
    # Half width, for the midi scale.
    "resnet18_half": {"block": "basic", "depths": (2, 2, 2, 2), "width": 32},
    "resnet18_conv_half": {"block": "basic", "depths": (2, 2, 2, 2), "width": 32, "shortcut": "B"},
    # One block of width 8 and one of width 16, for the mini scale.
    "resnet_mini": {"block": "basic", "depths": (1, 1), "width": 8},
    # Three blocks behind a stem of stride 2, for a small scale on a CPU.
    "resnet_small": {"block": "basic", "depths": (1, 1, 1), "width": 16, "stride": 2},
    "resnet_small_conv": {"block": "basic", "depths": (1, 1, 1), "width": 16, "stride": 2, "shortcut": "B"},
}


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, kind: str):
        super().__init__()
        self.conv1 = Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.norm1 = BatchNorm2d(width)
        self.conv2 = Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm2 = BatchNorm2d(width)
        self.shortcut = shortcut(inputs, width, stride, kind)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = F.relu(self.norm1(self.conv1(x)))
        out = self.norm2(self.conv2(out))
        return F.relu(out + self.shortcut(x))


class Bottleneck(nn.Module):
    """1×1, 3×3 (with the stride) and 1×1 convolutions, the last four times as wide, and a shortcut."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, kind: str):
        super().__init__()
        self.conv1 = Conv2d(inputs, width, 1, bias=False)
        self.norm1 = BatchNorm2d(width)
        self.conv2 = Conv2d(width, width, 3, stride, 1, bias=False)
        self.norm2 = BatchNorm2d(width)
        self.conv3 = Conv2d(width, 4 * width, 1, bias=False)
        self.norm3 = BatchNorm2d(4 * width)
        self.shortcut = shortcut(inputs, 4 * width, stride, kind)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = F.relu(self.norm1(self.conv1(x)))
        out = F.relu(self.norm2(self.conv2(out)))
        out = self.norm3(self.conv3(out))
        return F.relu(out + self.shortcut(x))


def shortcut(inputs: int, outputs: int, stride: int, kind: str) -> nn.Module:
    """Shortcut "B" or "C" where the shape changes, the identity elsewhere.

    Odd sizes are rounded up, as the 3×3 convolution of stride 2 beside it does.
    """
    if inputs == outputs and stride == 1:
        return nn.Identity()
    if kind == "B":
        return nn.Sequential(Conv2d(inputs, outputs, 1, stride, bias=False), BatchNorm2d(outputs))
    pool = [nn.AvgPool2d(stride, ceil_mode=True)] if stride > 1 else []
    return nn.Sequential(*pool, Conv2d(inputs, outputs, 1, bias=False), BatchNorm2d(outputs))


class ResNet(nn.Module):
    """Stem, stages of doubling width and halving size, mean over pixels, linear.

    Args:
        channels: of the images.
        classes: number of logits.
        block: "basic" or "bottleneck".
        depths: blocks of each stage.
        width: channels of the stem and the first stage.
        shortcut: "B" or "C".
        stride: of the stem.
    """

    def __init__(
        self, channels: int, classes: int, block: str, depths: tuple[int, ...], width: int, shortcut: str = "C",
        stride: int = 1,
    ):  # fmt: skip
        super().__init__()
        unit = {"basic": BasicBlock, "bottleneck": Bottleneck}[block]
        self.stem = Conv2d(channels, width, 3, stride, 1, bias=False)
        self.norm = BatchNorm2d(width)
        blocks, inputs = [], width
        for stage, depth in enumerate(depths):
            for index in range(depth):
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(unit(inputs, width * 2**stage, stride, shortcut))
                inputs = width * 2**stage * unit.expansion
        self.blocks = nn.Sequential(*blocks)
        self.head = Linear(inputs, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, C, H, W) to logits (n, classes)."""
        out = F.relu(self.norm(self.stem(x)))
        return self.head(self.blocks(out).mean((2, 3)))


def resnet(channels: int, classes: int, size: int, **arguments) -> ResNet:
    """Return a network of this file for images of this height and width."""
    return ResNet(channels, classes, **arguments)
