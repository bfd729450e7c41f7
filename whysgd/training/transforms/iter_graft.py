"""IterGraft, novack2023's grafting within a run."""

from whysgd.study.settings import MethodSettings
from whysgd.training.transforms import TINY

LABEL = "IterGraft"


def iter_graft(gradient, context, settings: MethodSettings):
    """g ← g · ‖g_SB‖ / ‖g‖, g_SB the gradient of one micro-batch of the step, at the same θ.

    The step has the direction of the large batch and the length of a small one's gradient.

    Source: Novack et al. 2023, section 4; Agarwal et al. 2020 for the name.
    """
    return gradient * (context.micro_batch_norm() / context.norm.clamp_min(TINY))[:, None]
