"""Hessian-vector products H_B v, three ways.

On ReLU networks the forward difference at eps = 1e-2 is *not* an approximation of the exact product (cosine about 0.4
to 0.6 per block early in training): the step crosses kinks. The two are different regularizers; the published rows use
the forward difference.
"""

import torch

from whysgd.training.blocks import Gradient

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

    g must carry the graph that leads to θ. Arguments as for `forward_difference`.

    Source: Pearlmutter 1994; geiping2022's "autograd".
    """
    (product,) = torch.autograd.grad(g, theta, grad_outputs=v)
    return product


def _step(v: torch.Tensor, eps: float) -> torch.Tensor:
    return eps / v.norm(dim=-1, keepdim=True).clamp_min(_TINY)


PRODUCTS = {
    "forward-differences": forward_difference,
    "central-differences": central_difference,
    "exact": exact_product,
}
# As the released code and its users call them.
ALIASES = {"finite_diff": "forward-differences", "autograd": "exact"}
