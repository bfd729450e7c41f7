"""Hessian-vector products of a block's loss, three ways, and geiping2022's gradient regularizer.

Each product takes the block gradient g_B that has been computed already, so that a regularized step
costs one more gradient (forward differences), two more (central), or a second differentiation.

On ReLU networks the forward difference at eps = 1e-2 is *not* an approximation of the exact product
(cosine about 0.4 to 0.6 per block early in training): the step crosses kinks. The two are different
regularizers; the published rows use the forward difference.
"""

from collections.abc import Callable

import torch

Gradient = Callable[[torch.Tensor], torch.Tensor]

# A direction of norm 0 must give a product of 0, not 0/0.
_TINY = 1e-30


def forward_difference(gradient: Gradient, theta, g, v, eps: float) -> torch.Tensor:
    """H_B v ≈ (∇L_B(θ + ε v) − g_B) / ε with ε = eps/‖v‖, a norm for each block.

    Args:
        gradient: ∇L_B as a function of θ; evaluated at one new point. θ itself is not touched.
        theta, g, v: parameters, block gradient and direction, (P,) or (k, P).
        eps: length of the step.

    Returns:
        the product, of the shape of v.

    Source: geiping2022, released code ("forward-differences").
    """
    step = _step(v, eps)
    return (gradient(torch.addcmul(theta, step, v)) - g) / step


def central_difference(gradient: Gradient, theta, g, v, eps: float) -> torch.Tensor:
    """H_B v ≈ (∇L_B(θ + ½ε v) − ∇L_B(θ − ½ε v)) / ε with ε = eps/‖v‖; g is not needed.

    Arguments and source as for `forward_difference` ("central-differences").
    """
    step = _step(v, eps)
    return (gradient(theta + 0.5 * step * v) - gradient(theta - 0.5 * step * v)) / step


def exact_product(gradient: Gradient, theta, g, v, eps: float) -> torch.Tensor:
    """H_B v = ∇_θ ⟨g_B(θ), v⟩ by double backward; `gradient` and `eps` are not needed.

    g must carry the graph that leads to θ. Arguments as for `forward_difference` ("autograd").
    """
    (product,) = torch.autograd.grad(g, theta, grad_outputs=v)
    return product


def _step(v: torch.Tensor, eps: float) -> torch.Tensor:
    return eps / v.norm(dim=-1, keepdim=True).clamp_min(_TINY)


PRODUCTS = {
    "forward-differences": forward_difference,
    "central-differences": central_difference,
    "autograd": exact_product,
}
ALIASES = {"finite_diff": "forward-differences"}


def gradient_norm_direction(g, pre_gradient, block_strength: float, acc_strength: float) -> torch.Tensor:
    """v = block_strength · g_B + acc_strength · ḡ_pre.

    Args:
        g: block gradient, (P,) or (k, P).
        pre_gradient: ḡ_pre, the full gradient at the same θ, (P,); None if acc_strength is 0.
    """
    v = block_strength * g
    return v if pre_gradient is None else v + acc_strength * pre_gradient
