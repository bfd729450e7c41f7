"""NGD, normalized gradient descent."""

from whysgd.study.settings import MethodSettings
from whysgd.training.transforms import TINY

LABEL = "NGD"
OWN_LENGTH = True  # A step of many micro-batches is no longer than that of one: see `whysgd.study.papers.is_single`.


def normalize(gradient, context, settings: MethodSettings):
    """g ← g / ‖g‖.

    Source: Novack et al. 2023, section 4.
    """
    return gradient / context.norm.clamp_min(TINY)[:, None]
