"""The seminar deck's two small convolutional networks.

The deck names their layers, "1 conv + 1 linear" and "2 conv with pooling + 2 linear". Kernels, channels, the stride in
place of a pooling that the first one does not name, and initial weights as torch sets them are our choices.
"""

import torch
from torch import nn

from whysgd.models.layers import Conv2d, Linear

NETWORKS = {
    "conv1": {"convolutions": 1, "width": 16},
    "conv2": {"convolutions": 2, "width": 8},
}


class SmallConv(nn.Module):
    """One or two 3×3 convolutions and as many linear maps, ReLU between them.

    One convolution has the stride 2; two have the stride 1 and a 2×2 max-pool behind each, the second twice the
    channels of the first.

    Args:
        convolutions: 1 or 2.
        width: channels of the first convolution.
        hidden: outputs of the first of two linear maps.
    """

    init = "torch"

    def __init__(self, channels: int, classes: int, size: int, convolutions: int, width: int, hidden: int = 64):
        super().__init__()
        if convolutions == 1:
            features, left = [Conv2d(channels, width, 3, 2, 1), nn.ReLU()], (size + 1) // 2
        else:
            features = [
                Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
                Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            ]  # fmt: skip
            width, left = 2 * width, size // 4
        self.features = nn.Sequential(*features)
        inputs = width * left**2
        head = [Linear(inputs, classes)] if convolutions == 1 else [
            Linear(inputs, hidden), nn.ReLU(), Linear(hidden, classes)
        ]  # fmt: skip
        self.head = nn.Sequential(*head)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, C, size, size) to logits (n, classes)."""
        return self.head(self.features(x).flatten(1))


small_conv = SmallConv
