"""ExterGraft, novack2023's grafting from another run."""

from whysgd.study.settings import MethodSettings, Name
from whysgd.training.transforms import TINY

LABEL = "ExterGraft"


class ExterGraftSettings(MethodSettings):
    """Take the length of the gradient from another run."""

    reference: Name
    """The run of the same paper, scale and seed whose gradient norms are taken."""


def exter_graft(gradient, context, settings: ExterGraftSettings):
    """g ← g · ‖g_SB‖ / ‖g‖, ‖g_SB‖ the norm that a finished small-batch run of the same seed had at the same step.

    Source: Novack et al. 2023, section 4.
    """
    return gradient * (context.reference_norm / context.norm.clamp_min(TINY))[:, None]
