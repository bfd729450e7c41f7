"""ExterGraft, novack2023's grafting from another run."""

from whysgd.study.spec import Transform
from whysgd.training.transforms import TINY


def exter_graft(gradient, context, settings: Transform):
    """g ← g · ‖g_SB‖ / ‖g‖, ‖g_SB‖ the norm that a finished small-batch run of the same seed had at the same step.

    Source: Novack et al. 2023, section 4.
    """
    return gradient * (context.reference_norm / context.norm.clamp_min(TINY))[:, None]
