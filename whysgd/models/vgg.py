"""VGG networks for images of 32×32, with a head of two hidden layers of 512 and no dropout.

Source: Simonyan and Zisserman 2015 (arXiv 1409.1556), configurations A (11 layers) and D (16); the head is
the usual one for CIFAR, as in novack2023.
"""

import torch
from torch import nn

from whysgd.models.layers import BatchNorm2d, Conv2d, Linear

# Channels of the convolutions of each stage; a max-pool that halves the size follows each.
STAGES = {
    11: ((64,), (128,), (256, 256), (512, 512), (512, 512)),
    16: ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)),
}


class VGG(nn.Module):
    """3×3 convolutions, each with ReLU, and a max-pool after each stage; then 512, 512, classes.

    Args:
        channels: of the images.
        classes: number of logits.
        layers: 11 or 16.
        norm: batch norm after each convolution.
    """

    def __init__(self, channels: int, classes: int, layers: int, norm: bool):
        super().__init__()
        features: list[nn.Module] = []
        for stage in STAGES[layers]:
            for width in stage:
                features.append(Conv2d(channels, width, 3, padding=1))
                features += [BatchNorm2d(width)] if norm else []
                features.append(nn.ReLU())
                channels = width
            features.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*features)
        self.head = nn.Sequential(
            Linear(channels, 512), nn.ReLU(), Linear(512, 512), nn.ReLU(), Linear(512, classes)
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, C, 32, 32) to logits (n, classes)."""
        return self.head(self.features(x).flatten(1))
