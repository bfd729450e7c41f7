"""NGD, normalized gradient descent."""

from whysgd.study.spec import Transform
from whysgd.training.transforms import TINY


def normalize(gradient, context, settings: Transform):
    """g ← g / ‖g‖.

    Source: Novack et al. 2023, section 4.
    """
    return gradient / context.norm.clamp_min(TINY)[:, None]
