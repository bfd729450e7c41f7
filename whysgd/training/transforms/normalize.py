"""NGD, normalized gradient descent."""

from whysgd.study.settings import MethodSettings
from whysgd.training.transforms import TINY

LABEL = "NGD"


def normalize(gradient, context, settings: MethodSettings):
    """g ← g / ‖g‖.

    Source: Novack et al. 2023, section 4.
    """
    return gradient / context.norm.clamp_min(TINY)[:, None]
