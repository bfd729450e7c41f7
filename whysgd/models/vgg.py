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
# The networks of this file by name, with the arguments of the function below; read without being run.
NETWORKS = {
    "vgg11": {"layers": 11, "norm": False},
    "vgg16_bn": {"layers": 16, "norm": True},
    # Half width, for the midi scale.
    "vgg11_half": {"layers": 11, "norm": False, "width": 32},
    "vgg16_bn_half": {"layers": 16, "norm": True, "width": 32},
}


class VGG(nn.Module):
    """3×3 convolutions, each with ReLU, and a max-pool after each stage; then 512, 512, classes.

    Args:
        channels: of the images.
        classes: number of logits.
        layers: 11 or 16.
        norm: batch norm after each convolution.
        width: channels of the first stage; 64 is the published network, other widths scale all layers.
    """

    def __init__(self, channels: int, classes: int, layers: int, norm: bool, width: int = 64):
        super().__init__()
        features: list[nn.Module] = []
        for stage in STAGES[layers]:
            for published in stage:
                outputs = published * width // 64
                features.append(Conv2d(channels, outputs, 3, padding=1))
                features += [BatchNorm2d(outputs)] if norm else []
                features.append(nn.ReLU())
                channels = outputs
            features.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*features)
        hidden = 512 * width // 64
        self.head = nn.Sequential(
            Linear(channels, hidden), nn.ReLU(), Linear(hidden, hidden), nn.ReLU(), Linear(hidden, classes)
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, C, 32, 32) to logits (n, classes)."""
        return self.head(self.features(x).flatten(1))


def vgg(channels: int, classes: int, size: int, **arguments) -> VGG:
    """Return a network of this file for images of this height and width."""
    return VGG(channels, classes, **arguments)
