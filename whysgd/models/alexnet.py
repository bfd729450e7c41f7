"""AlexNet for small images, with as many channels as one likes.

Source: Şimşekli et al. 2019 (arXiv 1901.06053), as in its released code.
"""

import torch
from torch import nn

from whysgd.models.layers import Conv2d, Dropout, Linear

NETWORKS = {}
PATTERN = r"alexnet_ch(?P<width>[1-9][0-9]*)"
WRITTEN = "alexnet_ch<channels>"


class AlexNet(nn.Module):
    """Five convolutions, each with ReLU, max-pools after the first, second and last, and three linear maps.

    Dropout of 1/2 acts before the first two linear maps. Images must have at least 28×28 pixels.

    Args:
        width: channels of every convolution.
    """

    init = "torch"

    def __init__(self, channels: int, classes: int, size: int, width: int):
        super().__init__()
        self.features = nn.Sequential(
            Conv2d(channels, width, 4, 2, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
            Conv2d(width, width, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            Conv2d(width, width, 3, padding=1), nn.ReLU(),
            Conv2d(width, width, 3, padding=1), nn.ReLU(),
            Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
        )  # fmt: skip
        # The first convolution, then the max-pools.
        left = size // 2 + 1
        for _ in range(3):
            left = (left - 1) // 2
        features = width * left**2
        # An integer's bit length is ⌊1 + log2⌋ of it.
        hidden = features * features.bit_length()
        self.head = nn.Sequential(
            Dropout(layer=0), Linear(features, hidden), nn.ReLU(),
            Dropout(layer=1), Linear(hidden, hidden), nn.ReLU(), Linear(hidden, classes),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, C, size, size) to logits (n, classes)."""
        return self.head(self.features(x).flatten(1))


alexnet = AlexNet
