"""geiping2022's gradient regularizer; see docs/regularizers.md for the three ways of its product."""

from typing import TYPE_CHECKING, Literal

from whysgd.study.settings import MethodSettings, NotNegative, Positive

if TYPE_CHECKING:
    import torch

    from whysgd.training.blocks import Block

LABEL = "gradient norm"


class GradientNorm(MethodSettings):
    """The full-batch gradient regularizer of geiping2022."""

    block_strength: NotNegative = 0.5
    """Weight of the block's own gradient in v."""
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


def gradient_norm(block: "Block", settings: GradientNorm) -> tuple["torch.Tensor", "torch.Tensor"]:
    """Return (η/4) H_B v and the value (η/4) · block_strength · ‖g_B‖², v = block_strength · g_B + acc_strength · ḡ_pre.

    The paper writes the penalty (η/4)‖g_B‖², whose gradient would be (η/2) H_B g_B; the released code adds
    (η/4) H_B v, and so does this.

    Args:
        block: one block or k stacked ones.
        settings: strengths, eps and the way of the product.

    Returns:
        gradient, of the shape of g, and value, () or (k,), in nats.

    Source: Geiping et al. 2022, equation 5 and released code.
    """
    from whysgd.training.products import PRODUCTS

    g = block.g.detach()
    v = settings.block_strength * g
    if block.pre_gradient is not None:
        v = v + settings.acc_strength * block.pre_gradient
    product = PRODUCTS[settings.variant](block.gradient, block.theta, block.g, v, settings.eps)
    value = block.lr / 4 * settings.block_strength * g.norm(dim=-1).square()
    return block.lr / 4 * product, value
