"""novack2023's FT."""

from typing import TYPE_CHECKING

from whysgd.training.penalties import PenaltySettings

if TYPE_CHECKING:
    import torch

    from whysgd.training.blocks import Block

LABEL = "FT"


def fisher_trace(block: "Block", settings: PenaltySettings) -> tuple["torch.Tensor", "torch.Tensor"]:
    """Return gradient and value of λR_B, R_B = ‖∇L_B^ŷ‖², the loss taken with labels ŷ drawn from the model's own predictive distribution.

    Source: Novack et al. 2023, section 2.
    """
    from whysgd.training.micro_batch import norm_of_score

    return norm_of_score(block, settings)
