"""LARS and LARC: SGD with a rate for each layer."""

from whysgd.study.settings import Flag, NotNegative, Positive
from whysgd.training.optimizers.sgd import SGDSettings, decayed, momentum_direction


class LARSSettings(SGDSettings):
    """SGD whose rate is, for each parameter tensor, in proportion to the ratio of its norm to that of its gradient."""

    trust: Positive = 0.02
    """What the ratio is multiplied by."""
    eps: NotNegative = 1e-8
    """Added to the ratio's denominator."""
    clip: Flag = False
    """LARC: let no tensor have more than the scheduled rate, and others their own."""


def lars(theta, state: dict, gradient, lr: float, settings: LARSSettings, layout) -> None:
    """Make a step of SGD with g_l ← r_l · (g_l + wd · w_l) for the tensors l of θ.

        r_l = trust · ‖w_l‖ / (‖g_l‖ + wd · ‖w_l‖ + eps)       with clip: min(r_l / lr, 1);  1 if either norm is 0

    Source: You et al. 2017 (arXiv 1708.03888), in the form of NVIDIA's apex. geiping2022's code computes the gradients
    again after it has scaled them, so that there it is SGD without weight decay.
    """
    direction, gradients, weights = (
        decayed(gradient, theta, settings, layout).clone(), layout.views(gradient), layout.views(theta),
    )  # fmt: skip
    for name, part in layout.views(direction).items():
        g, w = (one[name].flatten(1).norm(dim=1) for one in (gradients, weights))
        decay = 0.0 if any(word in name for word in settings.exempt) else settings.weight_decay
        rate = settings.trust * w / (g + decay * w + settings.eps)
        rate = (rate / lr).clamp_max(1.0) if settings.clip else rate
        part.mul_(rate.where((g > 0) & (w > 0), 1.0).view(-1, *[1] * (part.dim() - 1)))
    theta.add_(momentum_direction(state, direction, settings), alpha=-lr)
