"""AlexNet for small images, with as many channels as one likes.

Source: Şimşekli et al. 2019 (arXiv 1901.06053), as in its released code.
"""

import torch
from torch import nn

from whysgd.errors import UserError
from whysgd.models.layers import Conv2d, Dropout, Linear

# Kernel, stride and padding of what changes the size: the first convolution and the three max-pools.
GEOMETRY = ((4, 2, 2), (3, 2, 0), (3, 2, 0), (3, 2, 0))
SMALLEST = 28
# The networks of this file by name, with the arguments of the function below; read without being run.
NETWORKS = {}
# Any size; no leading zeros, so that a network has one name.
PATTERN = r"alexnet_ch(?P<width>[1-9][0-9]*)"
WRITTEN = "alexnet_ch<channels>"


class AlexNet(nn.Module):
    """Five convolutions, each with ReLU, max-pools after the first, second and last, and three linear maps.

    Dropout of 1/2 acts before the first two linear maps.

    Args:
        channels: of the images.
        classes: number of logits.
        size: height and width of the images, at least 28.
        width: channels of every convolution.

    Raises:
        UserError: no pixel would be left of images that small.
    """

    # As in the released code; see `whysgd.models.build.initialize`.
    init = "torch"

    def __init__(self, channels: int, classes: int, size: int, width: int):
        super().__init__()
        if final_size(size) < 1:
            raise UserError(
                f"model = 'alexnet_ch{width}': images of {size}×{size} are too small; allowed: at least "
                f"{SMALLEST}×{SMALLEST}"
            )
        self.features = nn.Sequential(
            Conv2d(channels, width, 4, 2, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
            Conv2d(width, width, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            Conv2d(width, width, 3, padding=1), nn.ReLU(),
            Conv2d(width, width, 3, padding=1), nn.ReLU(),
            Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
        )  # fmt: skip
        features = width * final_size(size) ** 2
        # An integer's bit length is ⌊1 + log2⌋ of it.
        hidden = features * features.bit_length()
        self.head = nn.Sequential(
            Dropout(layer=0), Linear(features, hidden), nn.ReLU(),
            Dropout(layer=1), Linear(hidden, hidden), nn.ReLU(), Linear(hidden, classes),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, C, size, size) to logits (n, classes)."""
        return self.head(self.features(x).flatten(1))


def final_size(size: int) -> int:
    """Height and width of what the head sees, for images of this height and width; below 1 if nothing is left."""
    for kernel, stride, padding in GEOMETRY:
        size = (size + 2 * padding - kernel) // stride + 1
    return size


def alexnet(channels: int, classes: int, size: int, **arguments) -> AlexNet:
    """Return a network of this file for images of this height and width."""
    return AlexNet(channels, classes, size, **arguments)
