"""Densely connected networks with the CIFAR stem: a bare 3×3 convolution of stride 1.

Source: Huang et al. 2017 (arXiv 1608.06993), in torchvision's form (bottleneck of 4 growth rates, transitions
that halve channels and size), as in geiping2022.
"""

import torch
from torch import nn
from torch.nn import functional as F

from whysgd.models.layers import BatchNorm2d, Conv2d, Linear, concatenate

# The networks of this file by name, with the arguments of the function below; read without being run.
NETWORKS = {
    "densenet121": {"depths": (6, 12, 24, 16), "growth": 32},
}


class DenseLayer(nn.Module):
    """Norm, ReLU, 1×1, norm, ReLU, 3×3; its output of `growth` channels is put beside its input."""

    def __init__(self, inputs: int, growth: int):
        super().__init__()
        self.norm1 = BatchNorm2d(inputs)
        self.conv1 = Conv2d(inputs, 4 * growth, 1, bias=False)
        self.norm2 = BatchNorm2d(4 * growth)
        self.conv2 = Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.conv1(F.relu(self.norm1(x)))
        out = self.conv2(F.relu(self.norm2(out)))
        return concatenate([x, out], self.conv1.copies)


class Transition(nn.Module):
    """Norm, ReLU, 1×1 to half the channels, average pool to half the size."""

    def __init__(self, inputs: int):
        super().__init__()
        self.norm = BatchNorm2d(inputs)
        self.conv = Conv2d(inputs, inputs // 2, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(self.conv(F.relu(self.norm(x))), 2)


class DenseNet(nn.Module):
    """Bare convolution, dense blocks with transitions between them, norm, ReLU, mean over pixels, linear.

    Args:
        channels: of the images.
        classes: number of logits.
        depths: layers of each dense block.
        growth: channels that each layer adds; the stem has twice as many.
    """

    # As in the released code; see `whysgd.models.build.initialize`.
    init = "he_fan_in"

    def __init__(self, channels: int, classes: int, depths: tuple[int, ...], growth: int):
        super().__init__()
        width = 2 * growth
        self.stem = Conv2d(channels, width, 3, 1, 1, bias=False)
        layers: list[nn.Module] = []
        for stage, depth in enumerate(depths):
            for _ in range(depth):
                layers.append(DenseLayer(width, growth))
                width += growth
            if stage < len(depths) - 1:
                layers.append(Transition(width))
                width //= 2
        self.layers = nn.Sequential(*layers)
        self.norm = BatchNorm2d(width)
        self.head = Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, C, H, W) to logits (n, classes)."""
        out = self.layers(self.stem(x))
        return self.head(F.relu(self.norm(out)).mean((2, 3)))


def densenet(channels: int, classes: int, size: int, **arguments) -> DenseNet:
    """Return a network of this file for images of this height and width."""
    return DenseNet(channels, classes, **arguments)
