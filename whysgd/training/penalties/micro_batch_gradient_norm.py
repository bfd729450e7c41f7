"""novack2023's GN."""

from typing import TYPE_CHECKING

from whysgd.training.penalties import PenaltySettings

if TYPE_CHECKING:
    import torch

    from whysgd.training.blocks import Block

LABEL = "GN"


def micro_batch_gradient_norm(block: "Block", settings: PenaltySettings) -> tuple["torch.Tensor", "torch.Tensor"]:
    """Return gradient and value of λR_B, R_B = ‖∇L_B‖², the squared norm of the micro-batch's own gradient; its gradient is 2λ H_B g_B.

    Source: Novack et al. 2023, section 2.
    """
    from whysgd.training.micro_batch import squared_norm

    return squared_norm(block.g, block.theta, settings.strength)
