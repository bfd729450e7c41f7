"""novack2023's normalized gradient descent."""

from typing import TYPE_CHECKING

from whysgd.study.settings import MethodSettings
from whysgd.training.transforms import TINY

if TYPE_CHECKING:
    import torch

    from whysgd.training.transforms import Context

LABEL = "NGD"


def normalize(gradient: "torch.Tensor", context: "Context", settings: MethodSettings) -> "torch.Tensor":
    """Return g / ‖g‖.

    Source: Novack et al. 2023, section 4.
    """
    return gradient / context.norm.clamp_min(TINY)
