"""Layers that can hold one set of weights, or k sets for k blocks at once.

A *stacked* network computes k blocks in one pass: every parameter has a leading dimension k and
activations are laid out as (n, k·C, H, W), block after block along the channels. A convolution is
then one convolution of k groups, batch norm sees k·C channels and so keeps each block's statistics
apart, and pooling, ReLU and flattening need no change. With weights of the usual shape the layers are torch's
own. They draw no weights when they are made: that is `whysgd.models.build.initialize`'s part, and torch would
read global random state for it.

Measured on two CPU cores with the network of the mini scale: a regularized step over 128 blocks of 4
takes 31 ms stacked, 504 ms in a loop over blocks, 55 ms with torch.func.vmap.
"""

import torch
from torch import nn
from torch.nn import functional as F

from whysgd.models.twice import batch_norm, convolution, is_twice_differentiable


class Conv2d(nn.Conv2d):
    """2-D convolution; weights (C_out, C_in, h, w), or stacked (k, C_out, C_in, h, w)."""

    def reset_parameters(self) -> None:
        """Leave the weights as they are."""

    @property
    def stack(self) -> int | None:
        """The number of stacked blocks; None for weights of the usual shape."""
        return None if self.weight.dim() == 4 else self.weight.shape[0]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        k = self.stack
        if k is None and not is_twice_differentiable():
            return super().forward(x)
        pointwise = self.kernel_size == self.stride == (1, 1) and self.groups == 1 and self.padding == (0, 0)
        if k is not None and pointwise and len(x) < 16:
            # torch's grouped 1×1 convolution loops over the groups for so few images: 2.1 ms against 0.44 ms for
            # the mini network's shortcut, forward and backward.
            pixels = x.reshape(len(x), k, -1, x.shape[2] * x.shape[3])
            out = (self.weight.flatten(2).unsqueeze(0) @ pixels).reshape(len(x), -1, *x.shape[2:])
        else:
            weight = self.weight if k is None else self.weight.flatten(0, 1)
            convolve = convolution if is_twice_differentiable() else _conv2d
            out = convolve(x, weight, self.stride, self.padding, self.dilation, (k or 1) * self.groups)
        return out if self.bias is None else out + self.bias.reshape(-1, 1, 1)


def _conv2d(x, weight, stride, padding, dilation, groups):
    return F.conv2d(x, weight, None, stride, padding, dilation, groups)


class BatchNorm2d(nn.BatchNorm2d):
    """Batch norm over each block; weight (C,), or stacked (k, C) with buffers (k, C)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        stacked, twice = self.weight.dim() == 2, is_twice_differentiable() and self.training
        if not stacked and not twice:
            return super().forward(x)
        mean, variance = self.running_mean.view(-1), self.running_var.view(-1)
        weight, bias = self.weight.reshape(-1), self.bias.reshape(-1)
        if twice:
            return batch_norm(x, mean, variance, weight, bias, self.momentum, self.eps)
        return F.batch_norm(x, mean, variance, weight, bias, self.training, self.momentum, self.eps)


class Linear(nn.Linear):
    """Linear map; (n, C_in) to (n, C_out), or stacked (n, k·C_in) to (n, k·C_out)."""

    def reset_parameters(self) -> None:
        """Leave the weights as they are."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.weight.dim() == 2:
            return super().forward(x)
        k = self.weight.shape[0]
        out = x.view(len(x), k, -1).transpose(0, 1) @ self.weight.mT
        if self.bias is not None:
            out = out + self.bias[:, None]
        return out.transpose(0, 1).flatten(1)


def concatenate(parts: list[torch.Tensor], stack: int | None) -> torch.Tensor:
    """Activations put side by side along the channels, block by block if they are stacked.

    Args:
        parts: (n, C_i, H, W), or stacked (n, k·C_i, H, W).
        stack: k, or None.

    Returns:
        (n, ΣC_i, H, W), or stacked (n, k·ΣC_i, H, W).
    """
    if stack is None:
        return torch.cat(parts, 1)
    return torch.cat([part.unflatten(1, (stack, -1)) for part in parts], 2).flatten(1, 2)
