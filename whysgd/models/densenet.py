"""Densely connected networks with the CIFAR stem: a bare 3×3 convolution of stride 1.

Source: Huang et al. 2017 (arXiv 1608.06993), in torchvision's form (bottleneck of 4 growth rates, transitions
that halve channels and size), as in geiping2022.
"""

from functools import partial

import torch
from torch import nn

from whysgd.models.layers import Conv2d, Linear, concatenate, norm_layer, stem

NETWORKS = {
    "densenet121": {"depths": (6, 12, 24, 16), "growth": 32},
    "densenet161": {"depths": (6, 12, 36, 24), "growth": 48},
    "densenet169": {"depths": (6, 12, 32, 32), "growth": 32},
    "densenet201": {"depths": (6, 12, 48, 32), "growth": 32},
}
VARIANTS = {"standard": {"stem_kind": "standard"}, "efficient": {"stem_kind": "efficient"}}
WRITTEN = "densenet<depth>_<variant>"


class DenseLayer(nn.Module):
    """Norm, activation, 1×1, norm, activation, 3×3; its output of `growth` channels is put beside its input."""

    def __init__(self, inputs: int, growth: int, norm, activation):
        super().__init__()
        self.norm1, self.activation = norm(inputs), activation()
        self.conv1 = Conv2d(inputs, 4 * growth, 1, bias=False)
        self.norm2 = norm(4 * growth)
        self.conv2 = Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.conv1(self.activation(self.norm1(x)))
        out = self.conv2(self.activation(self.norm2(out)))
        return concatenate([x, out], self.conv1.copies)


class DenseNet(nn.Module):
    """Stem, dense blocks, norm, activation, mean over pixels, linear.

    Between two blocks are norm, activation, 1×1 convolution to half the channels, and average pool to half the size.

    Args:
        depths: layers of each dense block.
        growth: channels that each layer adds; the stem has twice as many.
        stem_kind: see `whysgd.models.layers.stem`; cifar's is a bare convolution.
        norm, activation: see `whysgd.models.layers.norm_layer`; a class of torch.nn.
    """

    init = "he_fan_in"

    def __init__(
        self, channels: int, classes: int, depths: tuple[int, ...], growth: int, stem_kind: str = "cifar",
        norm: str = "batch", activation: str = "ReLU",
    ):  # fmt: skip
        super().__init__()
        kinds = {"norm": partial(norm_layer, norm), "activation": getattr(nn, activation)}
        width = 2 * growth
        first = stem(stem_kind, channels, width, **kinds)
        self.stem = nn.Sequential(*(first[:1] if stem_kind == "cifar" else first))
        layers: list[nn.Module] = []
        for stage, depth in enumerate(depths):
            for _ in range(depth):
                layers.append(DenseLayer(width, growth, **kinds))
                width += growth
            if stage < len(depths) - 1:
                layers += [kinds["norm"](width), kinds["activation"](), Conv2d(width, width // 2, 1, bias=False)]
                layers.append(nn.AvgPool2d(2))
                width //= 2
        self.layers = nn.Sequential(*layers)
        self.norm, self.activation = kinds["norm"](width), kinds["activation"]()
        self.head = Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, C, H, W) to logits (n, classes)."""
        out = self.layers(self.stem(x))
        return self.head(self.activation(self.norm(out)).mean((2, 3)))


def densenet(channels: int, classes: int, size: int, **arguments) -> DenseNet:
    """Return a network of this file; it takes images of any size that its poolings leave a pixel of."""
    return DenseNet(channels, classes, **arguments)
