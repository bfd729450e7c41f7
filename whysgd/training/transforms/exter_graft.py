"""novack2023's ExterGraft."""

from typing import TYPE_CHECKING

from whysgd.study.settings import MethodSettings, Name
from whysgd.training.transforms import TINY

if TYPE_CHECKING:
    import torch

    from whysgd.training.transforms import Context

LABEL = "ExterGraft"


class ExterGraft(MethodSettings):
    """Take the length of the gradient from another run."""

    reference: Name
    """The run of the same paper, scale and seed whose gradient norms are taken."""


def exter_graft(gradient: "torch.Tensor", context: "Context", settings: ExterGraft) -> "torch.Tensor":
    """Return g · ‖g_SB‖ / ‖g‖, ‖g_SB‖ the norm that a finished small-batch run of the same seed had at this step.

    Source: as for `iter_graft`.
    """
    return gradient * (context.target / context.norm.clamp_min(TINY))
