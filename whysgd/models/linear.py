"""A linear model of the pixels."""

from torch import nn

from whysgd.models.layers import Linear

NETWORKS = {"linear": {}}


def linear(channels: int, classes: int, size: int) -> nn.Module:
    """Return the network (n, C, size, size) to logits (n, classes)."""
    return nn.Sequential(nn.Flatten(), Linear(channels * size * size, classes))
