"""VGG networks for small images.

Source: Simonyan and Zisserman 2015 (arXiv 1409.1556), configurations A, B, D and E. The heads are torchvision's (4096
twice, with dropout, behind an average pool to 7×7), as novack2023's VGG-16 has it; that of 512 twice without dropout,
as its VGG-11 has it; or one linear map, as in geiping2022's released code.
"""

from functools import partial

import torch
from torch import nn

from whysgd.models.layers import Conv2d, Dropout, Linear, norm_layer

# Convolutions of each stage; a max-pool that halves the size follows each.
STAGES = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
NETWORKS = {
    "vgg11": {"layers": 11},
    "vgg13": {"layers": 13},
    "vgg16": {"layers": 16},
    "vgg19": {"layers": 19},
    # torchvision's.
    "vgg11_bn": {"layers": 11, "norm": "batch", "head": "torchvision"},
    "vgg13_bn": {"layers": 13, "norm": "batch", "head": "torchvision"},
    "vgg16_bn": {"layers": 16, "norm": "batch", "head": "torchvision"},
    "vgg19_bn": {"layers": 19, "norm": "batch", "head": "torchvision"},
}
VARIANTS = {"small": {"head": "small"}, "linear": {"head": "linear"}, "half": {"width": 32}}
WRITTEN = "vgg<layers>_<variant>"


class VGG(nn.Module):
    """3×3 convolutions, each with norm and activation, and a max-pool after each of five stages; then the head.

    Images must have at least 32×32 pixels.

    Args:
        layers: 11, 13, 16 or 19.
        norm, activation: see `whysgd.models.layers.norm_layer`; a class of torch.nn.
        head: "small", "linear" or "torchvision".
        width: channels of the first stage; 64 is the published network, other widths scale all layers.
    """

    def __init__(
        self, channels: int, classes: int, size: int, layers: int, norm: str = "none", activation: str = "ReLU",
        head: str = "small", width: int = 64,
    ):  # fmt: skip
        super().__init__()
        norm, activation = partial(norm_layer, norm), getattr(nn, activation)
        features: list[nn.Module] = []
        for stage, count in enumerate(STAGES[layers]):
            outputs = width * min(2**stage, 8)
            for _ in range(count):
                features += [Conv2d(channels, outputs, 3, padding=1), norm(outputs), activation()]
                channels = outputs
            features.append(nn.MaxPool2d(2))
        self.init = "he_fan_out" if head == "small" else "vgg"
        pixels, hidden, dropout = (size // 32) ** 2, 8 * width, []
        if head == "torchvision":
            features.append(nn.AdaptiveAvgPool2d((7, 7)))
            pixels, hidden, dropout = 49, 64 * width, [Dropout(layer=0)]
        self.features = nn.Sequential(*features)
        self.head = nn.Sequential(Linear(channels * pixels, classes)) if head == "linear" else nn.Sequential(
            Linear(channels * pixels, hidden), activation(), *dropout,
            Linear(hidden, hidden), activation(), *([Dropout(layer=1)] if dropout else []),
            Linear(hidden, classes),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, C, size, size) to logits (n, classes)."""
        return self.head(self.features(x).flatten(1))


vgg = VGG
