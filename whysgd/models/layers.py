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
"""

from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import nn
from torch.nn import functional as F

from whysgd.models.double_backward import batch_norm, convolution, in_double_backward

# Variants that every family with variants has. "nonorm" leaves norms out, "group4th" has groups of four channels.
VARIANTS = {
    "group1": {"norm": "group1"}, "group8": {"norm": "group8"}, "group32": {"norm": "group32"},
    "group4th": {"norm": "group4th"}, "ghost": {"norm": "ghost"}, "nonorm": {"norm": "none"},
    "gelu": {"activation": "GELU"}, "silu": {"activation": "SiLU"}, "elu": {"activation": "ELU"},
    "leaky": {"activation": "LeakyReLU"}, "softplus": {"activation": "Softplus"}, "tanh": {"activation": "Tanh"},
}  # fmt: skip
_KEYS: ContextVar[torch.Tensor | None] = ContextVar("dropout keys", default=None)


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
            # torch's grouped 1×1 convolution loops over the groups for so few images: 5 times as slow.
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
        if self.training and self.weight.dim() == 1:
            self.num_batches_tracked.add_(1)
        return self.normalize(x, self.running_mean.view(-1), self.running_var.view(-1))

    def normalize(self, x: torch.Tensor, mean: torch.Tensor, variance: torch.Tensor) -> torch.Tensor:
        """Return y, and in training mode move these running statistics."""
        weight, bias = self.weight.reshape(-1), self.bias.reshape(-1)
        if in_double_backward() and self.training:
            return batch_norm(x, mean, variance, weight, bias, self.momentum, self.eps)
        return F.batch_norm(x, mean, variance, weight, bias, self.training, self.momentum, self.eps)


class GhostNorm2d(BatchNorm2d):
    """Batch norm over equal parts of about 64 images of each micro-batch; it moves its statistics by the parts' mean.

    Source: Hoffer et al. 2017 (arXiv 1705.08741).
    """

    def normalize(self, x: torch.Tensor, mean: torch.Tensor, variance: torch.Tensor) -> torch.Tensor:
        """Return y, and in training mode move these running statistics."""
        parts = x.chunk(max(len(x) // 64, 1)) if self.training else [x]
        means, variances = ([start.clone() for _ in parts] for start in (mean, variance))
        normalize = super().normalize
        out = torch.cat([normalize(*part) for part in zip(parts, means, variances, strict=True)])
        mean.copy_(torch.stack(means).mean(0))
        variance.copy_(torch.stack(variances).mean(0))
        return out


class GroupNorm(nn.GroupNorm):
    """Norm over groups of channels of each image; weights (C,), or K sets (K, C)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        copies = self.weight.numel() // self.num_channels
        weight, bias = self.weight.reshape(-1).to(x.dtype), self.bias.reshape(-1).to(x.dtype)
        return F.group_norm(x, copies * self.num_groups, weight, bias, self.eps)


def norm_layer(kind: str, channels: int) -> nn.Module:
    """Return the norm "batch", "ghost", "group<groups>" (at most one for each channel), "group4th" or "none"."""
    if not kind.startswith("group"):
        return {"batch": BatchNorm2d, "ghost": GhostNorm2d, "none": nn.Identity}[kind](channels)
    return GroupNorm(channels // 4 if kind == "group4th" else min(int(kind[5:]), channels), channels)


def stem(kind: str, channels: int, width: int, norm, activation, stride: int = 1) -> list[nn.Module]:
    """Return the layers "cifar" (3×3), "standard" (7×7 of stride 2, max-pool) or "efficient" (three 3×3, max-pool).

    Args:
        channels, width: of the images, and of what follows.
        norm, activation: functions of channels, and of nothing.
        stride: of cifar's convolution.
    """
    # Kernel size, channels and stride of each convolution.
    shapes = {
        "cifar": [(3, width, stride)], "standard": [(7, width, 2)],
        "efficient": [(3, width // 2, 2), (3, width // 2, 1), (3, width, 1)],
    }  # fmt: skip
    layers: list[nn.Module] = []
    for kernel, outputs, step in shapes[kind]:
        layers += [Conv2d(channels, outputs, kernel, step, kernel // 2, bias=False), norm(outputs), activation()]
        channels = outputs
    return layers if kind == "cifar" else [*layers, nn.MaxPool2d(3, 2, 1)]


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


@contextmanager
def dropout_keys(keys: torch.Tensor | None):
    """Give `Dropout` the keys (K,) int64 of the micro-batches that pass."""
    token = _KEYS.set(keys)
    try:
        yield
    finally:
        _KEYS.reset(token)


class Dropout(nn.Module):
    """In training mode set each number to 0 with probability p, and divide the others by 1 − p.

    What is dropped is a function of the micro-batch's key, this layer and the number's place in the micro-batch alone,
    so it is the same in every pass of a step, whatever else shares it: the generator SplitMix64, whose state is the sum
    of the three times its increment (Steele et al., Fast Splittable Pseudorandom Number Generators, OOPSLA 2014).

    Args:
        p: from 0 to below 1.
        layer: its number among those of the network.
    """

    def __init__(self, p: float = 0.5, layer: int = 0):
        super().__init__()
        self.p, self.layer = p, layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return x
        keys = _KEYS.get()
        if keys is None:
            raise RuntimeError("dropout in training mode needs keys: whysgd.models.layers.dropout_keys")
        # Each layer has 2^40 places of its own. Where they begin is added to the keys: torch's compiler takes an index
        # plus a constant for 32 bits, on a GPU. Products wrap around, which makes the constants negative.
        places = torch.arange(1, x.numel() // len(keys) + 1, device=x.device).view(len(x), 1, -1)
        bits = (places + (keys[:, None] + (self.layer << 40))) * -0x61C8864680B583EB
        bits = (bits ^ (bits >> 30 & (1 << 34) - 1)) * -0x40A7B892E31B1A47
        bits = (bits ^ (bits >> 27 & (1 << 37) - 1)) * -0x6B2FB644ECCEEE15
        kept = bits >> 33 & (1 << 31) - 1 >= self.p * (1 << 31)
        return (x.reshape(len(x), len(keys), -1) * kept / (1 - self.p)).view(x.shape)
