"""novack2023's IterGraft."""

from typing import TYPE_CHECKING

from whysgd.study.settings import MethodSettings
from whysgd.training.transforms import TINY

if TYPE_CHECKING:
    import torch

    from whysgd.training.transforms import Context

LABEL = "IterGraft"


def iter_graft(gradient: "torch.Tensor", context: "Context", settings: MethodSettings) -> "torch.Tensor":
    """Return g · ‖g_SB‖ / ‖g‖, g_SB the gradient of one micro-batch of the step at the same θ.

    Source: Novack et al. 2023, section 4; Agarwal et al. 2020 for the name.
    """
    return gradient * (context.target / context.norm.clamp_min(TINY))
