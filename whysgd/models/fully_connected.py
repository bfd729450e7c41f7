"""Fully connected networks without biases.

Source: Şimşekli et al. 2019 (arXiv 1901.06053), as in its released code.
"""

import torch
from torch import nn

from whysgd.models.layers import Linear

NETWORKS = {}
PATTERN = r"fc_d(?P<depth>[2-9]|[1-9][0-9]+)_w(?P<width>[1-9][0-9]*)"
WRITTEN = "fc_d<depth>_w<width>"


class FullyConnected(nn.Module):
    """All pixels in one vector, then linear maps without biases, ReLU between them.

    Args:
        depth: number of linear maps, at least 2.
        width: outputs of each but the last.
    """

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


fully_connected = FullyConnected
