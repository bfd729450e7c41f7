"""geiping2022's gradient regularizer; novack2023's GN is `micro_batch_gradient_norm`.

It needs Hessian-vector products, in one of three ways. On ReLU networks the forward difference at eps = 1e-2 is *not*
an approximation of the exact product (cosine about 0.4 to 0.6 per micro-batch early in training): the step crosses
kinks. The two are different regularizers; the published rows use the forward difference.
"""

from typing import Literal

from whysgd.study.settings import MethodSettings, NotNegative, Positive

LABEL = "gradient norm"
# A direction of norm 0 must give a product of 0, not 0/0.
_TINY = 1e-30


class GradientNormSettings(MethodSettings):
    """The gradient regularizer of geiping2022."""

    block_strength: NotNegative = 0.5
    """Weight of the micro-batch's own gradient in v."""
    acc_strength: NotNegative = 0.0
    """Weight of the full gradient in v."""
    eps: Positive = 0.01
    """Length of the step of a difference."""
    variant: Literal["forward-differences", "central-differences", "exact"] = "forward-differences"
    """How the Hessian meets v; forward-differences is the published regularizer."""

    @property
    def exact(self) -> bool:
        """Whether the product is differentiated, not a difference of gradients."""
        return self.variant == "exact"


def gradient_norm(micro_batches, settings: GradientNormSettings):
    """Add (η/4) H_B v, v = block_strength · g_B + acc_strength · ḡ.

    The paper writes the penalty (η/4)‖g_B‖², whose gradient would be (η/2) H_B g_B; the released code adds
    (η/4) H_B v, and so does this. The value is that of the "full loss", (η/4)(block_strength · ‖g_B‖² + acc_strength ·
    ‖ḡ‖²).

    Source: Geiping et al. 2022, equation 5 and released code.
    """
    # The exact product differentiates the gradient: its graph must be made before the gradient is asked for.
    g = micro_batches.attached_gradient.detach() if settings.exact else micro_batches.gradient
    v, value = settings.block_strength * g, settings.block_strength * g.norm(dim=-1).square()
    if micro_batches.full_gradient is not None:
        v = v + settings.acc_strength * micro_batches.full_gradient
        value = value + settings.acc_strength * micro_batches.full_gradient.norm(dim=-1).square()
    product = PRODUCTS[settings.variant](micro_batches, v, settings.eps)
    return micro_batches.lr / 4 * product, micro_batches.lr / 4 * value


def needs_full_gradient(settings: GradientNormSettings) -> bool:
    """Return whether ḡ is a part of v."""
    return settings.acc_strength != 0


gradient_norm.needs_full_gradient = needs_full_gradient


def forward_difference(micro_batches, v, eps: float):
    """Return H_B v ≈ (∇L_B(θ + ε v) − g_B) / ε with ε = eps/‖v‖, a norm for each micro-batch.

    Args:
        micro_batches: evaluated at one new point; θ itself is not touched.
        v: directions (K, P).
        eps: length of the step.

    Source: geiping2022, released code ("forward-differences").
    """
    step = _step(v, eps)
    return (micro_batches.gradient_at(micro_batches.theta.detach().addcmul(step, v)) - micro_batches.gradient) / step


def central_difference(micro_batches, v, eps: float):
    """Return H_B v ≈ (∇L_B(θ + ½ε v) − ∇L_B(θ − ½ε v)) / ε with ε = eps/‖v‖; g_B is not needed.

    Arguments and source as for `forward_difference` ("central-differences").
    """
    step, theta = _step(v, eps), micro_batches.theta.detach()
    return (
        micro_batches.gradient_at(theta + 0.5 * step * v) - micro_batches.gradient_at(theta - 0.5 * step * v)
    ) / step


def exact_product(micro_batches, v, eps: float):
    """Return H_B v = ∇_θ ⟨g_B(θ), v⟩ by double backward; `eps` is not needed.

    Source: Pearlmutter 1994; geiping2022's "autograd".
    """
    import torch

    (product,) = torch.autograd.grad(micro_batches.attached_gradient, micro_batches.theta, grad_outputs=v)
    return product


def _step(v, eps: float):
    return eps / v.norm(dim=-1, keepdim=True).clamp_min(_TINY)


PRODUCTS = {
    "forward-differences": forward_difference,
    "central-differences": central_difference,
    "exact": exact_product,
}
# As the released code and its users call them.
ALIASES = {"finite_diff": "forward-differences", "autograd": "exact", "autograd-pen": "exact"}
