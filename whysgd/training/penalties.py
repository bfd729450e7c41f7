"""Penalties: each returns the gradient and the value of λR_B for one block, or for k stacked blocks.

A penalty is a function `penalty(block, settings) -> (gradient, value)` in `PENALTIES`; a new one is a
function there and a name in config/paper.schema.yaml. novack2023's are in `whysgd.training.micro_batch`.

geiping2022's gradient regularizer needs Hessian-vector products, three ways. On ReLU networks the forward
difference at eps = 1e-2 is *not* an approximation of the exact product (cosine about 0.4 to 0.6 per block
early in training): the step crosses kinks. The two are different regularizers; the published rows use the
forward difference.
"""

import torch

from whysgd.study.spec import MicroBatchPenalty, Penalty
from whysgd.training.blocks import Block, Gradient
from whysgd.training.micro_batch import MICRO_BATCH

# A direction of norm 0 must give a product of 0, not 0/0.
_TINY = 1e-30


def gradient_norm(block: Block, settings: Penalty) -> tuple[torch.Tensor, torch.Tensor]:
    """geiping2022's gradient regularizer: adds (η/4) H_B v, v = block_strength · g_B + acc_strength · ḡ_pre.

    The paper writes the penalty (η/4)‖g_B‖², whose gradient would be (η/2) H_B g_B; the released code adds
    (η/4) H_B v, and so does this. The value is that of the "full loss", (η/4) · block_strength · ‖g_B‖².

    Args:
        block: one block or k stacked ones.
        settings: strengths, eps and the way of the product.

    Returns:
        gradient, of the shape of g, and value, () or (k,), in nats.

    Source: Geiping et al. 2022, equation 5 and released code.
    """
    g = block.g.detach()
    v = settings.block_strength * g
    if block.pre_gradient is not None:
        v = v + settings.acc_strength * block.pre_gradient
    product = PRODUCTS[settings.variant](block.gradient, block.theta, block.g, v, settings.eps)
    value = block.lr / 4 * settings.block_strength * g.norm(dim=-1).square()
    return block.lr / 4 * product, value


PENALTIES = {"gradient_norm": gradient_norm, **MICRO_BATCH}


def needs_graph(settings: Penalty | MicroBatchPenalty) -> bool:
    """Whether `Block.g` must be differentiable."""
    return settings.exact and settings.name in ("gradient_norm", "micro_batch_gradient_norm")


def needs_logits(settings: Penalty | MicroBatchPenalty) -> bool:
    """Whether `Block.logits` must be there, and differentiable."""
    return isinstance(settings, MicroBatchPenalty)


def needs_pre_gradient(settings: Penalty | MicroBatchPenalty) -> bool:
    """Whether a pass over all blocks must be made beforehand."""
    return isinstance(settings, Penalty) and settings.acc_strength != 0


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
