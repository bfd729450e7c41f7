"""Layers that can hold one set of weights, or k sets for k blocks at once, and compute in their input's precision.

Activations may be of lower precision than the weights (bf16 beside fp32): a weight is rounded where it is used, and
batch norm's weights, sums and statistics stay in the weights' precision.

A *stacked* network computes k blocks in one pass: every parameter has a leading dimension k and
activations are laid out as (n, k·C, H, W), block after block along the channels. A convolution is
then one convolution of k groups, batch norm sees k·C channels and so keeps each block's statistics
apart, and pooling, ReLU and flattening need no change. With weights of the usual shape the layers are torch's
own. In a *shared* network the weights have their usual shape, k blocks follow one another along the batch, and only
the running statistics have a leading dimension k: batch norm then takes each block by itself.

Layers draw no weights when they are made: that is `whysgd.models.build.initialize`'s part, and torch would
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
        k, weight = self.stack, self.weight.to(x.dtype)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        if k is None and not is_twice_differentiable():
            return self._conv_forward(x, weight, bias)
        pointwise = self.kernel_size == self.stride == (1, 1) and self.groups == 1 and self.padding == (0, 0)
        if k is not None and pointwise and len(x) < 16:
            # torch's grouped 1×1 convolution loops over the groups for so few images: 2.1 ms against 0.44 ms for
            # the mini network's shortcut, forward and backward.
            pixels = x.reshape(len(x), k, -1, x.shape[2] * x.shape[3])
            out = (weight.flatten(2).unsqueeze(0) @ pixels).reshape(len(x), -1, *x.shape[2:])
        else:
            weight = weight if k is None else weight.flatten(0, 1)
            convolve = convolution if is_twice_differentiable() else _conv2d
            out = convolve(x, weight, self.stride, self.padding, self.dilation, (k or 1) * self.groups)
        return out if bias is None else out + bias.reshape(-1, 1, 1)


def _conv2d(x, weight, stride, padding, dilation, groups):
    return F.conv2d(x, weight, None, stride, padding, dilation, groups)


class BatchNorm2d(nn.BatchNorm2d):
    """Batch norm over each block; weight (C,), or stacked (k, C) with buffers (k, C), or shared: (C,) with (k, C)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        twice = is_twice_differentiable() and self.training
        if self.weight.dim() < self.running_mean.dim():
            return _norm_of_each_block(x, self.running_mean, self.running_var, self)
        mean, variance = self.running_mean.view(-1), self.running_var.view(-1)
        weight, bias = self.weight.reshape(-1), self.bias.reshape(-1)
        if twice:
            return batch_norm(x, mean, variance, weight, bias, self.momentum, self.eps)
        if self.training and self.weight.dim() == 1:
            self.num_batches_tracked.add_(1)
        return F.batch_norm(x, mean, variance, weight, bias, self.training, self.momentum, self.eps)


def _norm_of_each_block(x: torch.Tensor, running_mean, running_var, norm: BatchNorm2d) -> torch.Tensor:
    """Batch norm in training mode of k blocks that share one weight, in plain operations (a compiler fuses them).

    Args:
        x: (k·n, C, H, W), block after block.
        running_mean, running_var: (k, C), updated in place.
        norm: has weight and bias (C,).
    """
    k = len(running_mean)
    blocks = x.unflatten(0, (k, -1)).to(running_mean.dtype)
    variance, mean = torch.var_mean(blocks, (1, 3, 4), correction=0, keepdim=True)
    with torch.no_grad():
        count = blocks.shape[1] * blocks.shape[3] * blocks.shape[4]
        running_mean.lerp_(mean.view(k, -1), norm.momentum)
        running_var.lerp_(variance.view(k, -1) * (count / (count - 1)), norm.momentum)
    scale = torch.rsqrt(variance + norm.eps) * norm.weight.view(-1, 1, 1)
    return ((blocks - mean) * scale + norm.bias.view(-1, 1, 1)).flatten(0, 1).to(x.dtype)


class Linear(nn.Linear):
    """Linear map; (n, C_in) to (n, C_out), or stacked (n, k·C_in) to (n, k·C_out)."""

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
