"""novack2023's AJ."""

from typing import TYPE_CHECKING

from whysgd.training.penalties import PenaltySettings

if TYPE_CHECKING:
    import torch

    from whysgd.training.blocks import Block

LABEL = "AJ"


def average_jacobian(block: "Block", settings: PenaltySettings) -> tuple["torch.Tensor", "torch.Tensor"]:
    """Return gradient and value of λR_B, R_B = ‖∇_θ Σ_c mean_{x∈B} f_c(x)‖², f the logits.

    Source: Novack et al. 2023, section 2.
    """
    from whysgd.training.micro_batch import norm_of_score

    return norm_of_score(block, settings)
