"""Layers that hold one set of weights, or K sets for K micro-batches at once, and compute in their input's precision.

Seeds and micro-batches are the same axis here: K counts pairs of a seed and one of its micro-batches. A network that
holds K sets computes K micro-batches in one pass: every parameter has a leading dimension K, and activations have the
shape (n, K·C, H, W), micro-batch after micro-batch along the channels. A convolution is then one convolution of K
groups, batch norm sees K·C channels and so keeps the statistics of each micro-batch apart, and pooling, ReLU and
flattening need no change. With weights of the usual shape the layers are torch's own.

Activations may be of lower precision than the weights (bf16 beside fp32): a weight is rounded where it is used, and
batch norm's weights, sums and statistics stay in the weights' precision.

Layers draw no weights when they are made: `whysgd.models.build.initialize` does, and torch would read global random
state for it.

Measured on two CPU cores with the network of the mini scale: a regularized step over 128 micro-batches of 4 takes 31 ms
this way, 504 ms in a loop over micro-batches, 55 ms with torch.func.vmap.
"""

import torch
from torch import nn
from torch.nn import functional as F

from whysgd.models.double_backward import batch_norm, convolution, in_double_backward


class Conv2d(nn.Conv2d):
    """2-D convolution; weights (C_out, C_in, h, w), or K sets (K, C_out, C_in, h, w)."""

    def reset_parameters(self) -> None:
        """Leave the weights as they are."""

    @property
    def copies(self) -> int | None:
        """The number K of sets of weights; None for weights of the usual shape."""
        return None if self.weight.dim() == 4 else self.weight.shape[0]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        k, weight = self.copies, self.weight.to(x.dtype)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        if k is None and not in_double_backward():
            return self._conv_forward(x, weight, bias)
        pointwise = self.kernel_size == self.stride == (1, 1) and self.groups == 1 and self.padding == (0, 0)
        if k is not None and pointwise and len(x) < 16:
            # torch's grouped 1×1 convolution loops over the groups for so few images: 2.1 ms against 0.44 ms for
            # the mini network's shortcut, forward and backward.
            pixels = x.reshape(len(x), k, -1, x.shape[2] * x.shape[3])
            out = (weight.flatten(2).unsqueeze(0) @ pixels).reshape(len(x), -1, *x.shape[2:])
        else:
            weight = weight if k is None else weight.flatten(0, 1)
            convolve = convolution if in_double_backward() else _conv2d
            out = convolve(x, weight, self.stride, self.padding, self.dilation, (k or 1) * self.groups)
        return out if bias is None else out + bias.reshape(-1, 1, 1)


def _conv2d(x, weight, stride, padding, dilation, groups):
    return F.conv2d(x, weight, None, stride, padding, dilation, groups)


class BatchNorm2d(nn.BatchNorm2d):
    """Batch norm over each micro-batch; weights and buffers (C,), or K sets (K, C)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean, variance = self.running_mean.view(-1), self.running_var.view(-1)
        weight, bias = self.weight.reshape(-1), self.bias.reshape(-1)
        if in_double_backward() and self.training:
            return batch_norm(x, mean, variance, weight, bias, self.momentum, self.eps)
        if self.training and self.weight.dim() == 1:
            self.num_batches_tracked.add_(1)
        return F.batch_norm(x, mean, variance, weight, bias, self.training, self.momentum, self.eps)


class Linear(nn.Linear):
    """Linear map; (n, C_in) to (n, C_out), or with K sets of weights (n, K·C_in) to (n, K·C_out)."""

    def reset_parameters(self) -> None:
        """Leave the weights as they are."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.weight.to(x.dtype)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        if weight.dim() == 2:
            return F.linear(x, weight, bias)
        k = weight.shape[0]
        out = x.view(len(x), k, -1).transpose(0, 1) @ weight.mT
        if bias is not None:
            out = out + bias[:, None]
        return out.transpose(0, 1).flatten(1)


def concatenate(parts: list[torch.Tensor], copies: int | None) -> torch.Tensor:
    """Put activations side by side along the channels, micro-batch by micro-batch.

    Args:
        parts: (n, C_i, H, W), or (n, K·C_i, H, W).
        copies: K, or None for weights of the usual shape.

    Returns:
        (n, ΣC_i, H, W), or (n, K·ΣC_i, H, W).
    """
    if copies is None:
        return torch.cat(parts, 1)
    return torch.cat([part.unflatten(1, (copies, -1)) for part in parts], 2).flatten(1, 2)
