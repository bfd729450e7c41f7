"""Convolution and batch norm whose double backward is cheap, for exact penalties.

A convolution, its gradient for the input and its gradient for the weight are each linear in both arguments, and
the derivatives of each are the other two. Written as three autograd functions that call one another, any
derivative of any order is one of three kernels. torch's own second derivative loops over the groups of a grouped
convolution instead. That of batch norm is some thirty small operations; here it is two calls of the fused first
derivative and a few sums.
"""

from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch.autograd import Function
from torch.autograd.function import once_differentiable

_ON: ContextVar[bool] = ContextVar("double backward", default=False)


@contextmanager
def double_backward():
    """Let the layers of `whysgd.models` choose operations whose gradients are cheap to differentiate."""
    token = _ON.set(True)
    try:
        yield
    finally:
        _ON.reset(token)


def in_double_backward() -> bool:
    """Return whether gradients made now will be differentiated again."""
    return _ON.get()


def convolution(x: torch.Tensor, weight: torch.Tensor, stride, padding, dilation, groups: int) -> torch.Tensor:
    """Compute torch.nn.functional.conv2d without bias; same shapes."""
    return _Convolution.apply(x, weight, (list(stride), list(padding), list(dilation), groups))


def _backward(output_gradient, x, weight, geometry, mask):
    stride, padding, dilation, groups = geometry
    return torch.ops.aten.convolution_backward(
        output_gradient, x, weight, None, stride, padding, dilation, False, [0, 0], groups, [*mask, False]
    )


class _Convolution(Function):
    """y = x ∗ w."""

    @staticmethod
    def forward(ctx, x, weight, geometry):
        ctx.save_for_backward(x, weight)
        ctx.geometry = geometry
        stride, padding, dilation, groups = geometry
        return torch.conv2d(x, weight, None, stride, padding, dilation, groups)

    @staticmethod
    def backward(ctx, g):
        x, weight = ctx.saved_tensors
        for_x = _InputGradient.apply(g, weight, x, ctx.geometry) if ctx.needs_input_grad[0] else None
        for_weight = _WeightGradient.apply(g, x, weight, ctx.geometry) if ctx.needs_input_grad[1] else None
        return for_x, for_weight, None


class _InputGradient(Function):
    """∂⟨g, x ∗ w⟩/∂x, linear in g and w; x gives the shape alone."""

    @staticmethod
    def forward(ctx, g, weight, x, geometry):
        ctx.save_for_backward(g, weight)
        ctx.geometry = geometry
        return _backward(g, x, weight, geometry, (True, False))[0]

    @staticmethod
    def backward(ctx, u):
        g, weight = ctx.saved_tensors
        for_g = _Convolution.apply(u, weight, ctx.geometry) if ctx.needs_input_grad[0] else None
        for_weight = _WeightGradient.apply(g, u, weight, ctx.geometry) if ctx.needs_input_grad[1] else None
        return for_g, for_weight, None, None


class _WeightGradient(Function):
    """∂⟨g, x ∗ w⟩/∂w, linear in g and x; w gives the shape alone."""

    @staticmethod
    def forward(ctx, g, x, weight, geometry):
        ctx.save_for_backward(g, x)
        ctx.geometry = geometry
        return _backward(g, x, weight, geometry, (False, True))[1]

    @staticmethod
    def backward(ctx, u):
        g, x = ctx.saved_tensors
        for_g = _Convolution.apply(x, u, ctx.geometry) if ctx.needs_input_grad[0] else None
        for_x = _InputGradient.apply(g, u, x, ctx.geometry) if ctx.needs_input_grad[1] else None
        return for_g, for_x, None, None


def batch_norm(x, running_mean, running_var, weight, bias, momentum: float, eps: float) -> torch.Tensor:
    """Compute torch.nn.functional.batch_norm in training mode; same shapes, running statistics updated in place.

    Args:
        x: (n, C, H, W).
        running_mean, running_var: (C,), or None.
        weight, bias: γ and β, (C,).
    """
    return _BatchNorm.apply(x, weight, bias, (running_mean, running_var), momentum, eps)


class _BatchNorm(Function):
    """y = γ x̂ + β with x̂ = (x − mean(x)) · s, s = (var(x) + eps)^(−1/2), channel by channel."""

    @staticmethod
    def forward(ctx, x, weight, bias, running, momentum, eps):
        out, mean, scale = torch.native_batch_norm(x, weight, bias, *running, True, momentum, eps)
        ctx.save_for_backward(x, weight, mean, scale)
        ctx.eps = eps
        return out

    @staticmethod
    def backward(ctx, g):
        x, weight, mean, scale = ctx.saved_tensors
        return *_BatchNormGradient.apply(g, x, weight, mean, scale, ctx.eps), None, None, None


class _BatchNormGradient(Function):
    """The gradients of ⟨g, y⟩ for x, γ and β.

    With P(v) = v − mean(v) − x̂ · mean(v x̂), which torch's fused kernel gives:  γ s P(g),  Σ g x̂,  Σ g.
    """

    @staticmethod
    def forward(ctx, g, x, weight, mean, scale, eps):
        ctx.save_for_backward(g, x, weight, mean, scale)
        ctx.eps = eps
        return _norm_backward(g, x, weight, mean, scale, eps)

    @staticmethod
    @once_differentiable
    def backward(ctx, u, a, b):
        """For cotangents u (of x), a (of γ) and b (of β), with Q = ⟨u, s P(g)⟩ and n elements in a channel.

        for g: γ s P(u) + a x̂ + b
        for γ: Q
        for x: a s P(g) − γ s · [ x̂ Q/n + mean(g x̂) s P(u) + mean(u x̂) s P(g) ]

        They follow from d⟨w, x̂⟩/dx = s P(w) for any fixed w, and ds/dx = −s² x̂/n.
        """
        g, x, weight, mean, scale = ctx.saved_tensors
        n = x.numel() / x.shape[1]
        # Not None for γ = 1: without a weight CUDA's kernel has no sums to return.
        one = torch.ones_like(mean)
        pu, u_hat, _ = _norm_backward(u, x, one, mean, scale, ctx.eps)
        pg, g_hat, _ = _norm_backward(g, x, one, mean, scale, ctx.eps)
        x_hat = (x - _wide(mean)) * _wide(scale)
        # Sums and statistics are in the weights' precision, which may be higher than that of x and g.
        q = (u.to(mean.dtype) * pg).sum((0, 2, 3))
        for_g = torch.addcmul(_wide(b), pu, _wide(weight)).addcmul_(x_hat, _wide(a))
        for_x = pg * _wide(a - weight * scale * u_hat / n)
        for_x.addcmul_(pu, _wide(-weight * scale * g_hat / n)).addcmul_(x_hat, _wide(-weight * scale * q / n))
        return for_g.to(g.dtype), for_x.to(x.dtype), q, None, None, None


def _norm_backward(g, x, weight, mean, scale, eps):
    return torch.ops.aten.native_batch_norm_backward(g, x, weight, None, None, mean, scale, True, eps, [True] * 3)


def _wide(channels: torch.Tensor) -> torch.Tensor:
    return channels.view(-1, 1, 1)
