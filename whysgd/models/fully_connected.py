"""Fully connected networks without biases.

Source: Şimşekli et al. 2019 (arXiv 1901.06053), as in its released code.
"""

import torch
from torch import nn

from whysgd.models.layers import Linear

# The networks of this file by name, with the arguments of the function below; read without being run.
NETWORKS = {}
# Any size; no leading zeros, so that a network has one name.
PATTERN = r"fc_d(?P<depth>[2-9]|[1-9][0-9]+)_w(?P<width>[1-9][0-9]*)"
WRITTEN = "fc_d<depth>_w<width>"


class FullyConnected(nn.Module):
    """All pixels in one vector, then linear maps without biases, ReLU between them.

    Args:
        channels: of the images.
        classes: number of logits.
        size: height and width of the images.
        depth: number of linear maps, at least 2.
        width: outputs of each but the last.
    """

    # As in the released code; see `whysgd.models.build.initialize`.
    init = "torch"

    def __init__(self, channels: int, classes: int, size: int, depth: int, width: int):
        super().__init__()
        layers: list[nn.Module] = [Linear(channels * size * size, width, bias=False)]
        for _ in range(depth - 2):
            layers += [nn.ReLU(), Linear(width, width, bias=False)]
        self.layers = nn.Sequential(*layers, nn.ReLU(), Linear(width, classes, bias=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, C, size, size) to logits (n, classes)."""
        return self.layers(x.flatten(1))


def fully_connected(channels: int, classes: int, size: int, **arguments) -> FullyConnected:
    """Return a network of this file for images of this height and width."""
    return FullyConnected(channels, classes, size, **arguments)
