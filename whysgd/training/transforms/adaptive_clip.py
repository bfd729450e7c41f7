"""Adaptive gradient clipping, of NFNets."""

from whysgd.study.settings import MethodSettings, Positive, Text


class AdaptiveClipSettings(MethodSettings):
    """Let no unit's gradient be longer than a share of its weights."""

    limit: Positive = 0.01
    """The largest ratio of the norms of a unit's gradient and weights."""
    eps: Positive = 1e-3
    """The smallest norm that weights count with."""
    skip: tuple[Text, ...] = ("head",)
    """Beginnings of names of parameters that are left alone; networks of this repository end in `head`."""


def adaptive_clip(gradient, context, settings: AdaptiveClipSettings):
    """g_u ← g_u · c_u/‖g_u‖ if ‖g_u‖ > c_u = limit · max(‖w_u‖, eps), for each unit u.

    A unit is a row of a matrix, a filter of a convolution, or a whole vector.

    Source: Brock et al. 2021 (arXiv 2102.06171); geiping2022.
    """
    gradient = gradient.clone()
    weights = context.layout.views(context.theta)
    for name, part in context.layout.views(gradient).items():
        if not name.startswith(settings.skip):
            # (seeds, units, …): a vector is one unit.
            units = [one.unsqueeze(1).flatten(2) if part.dim() < 3 else one.flatten(2) for one in (part, weights[name])]
            g, w = (one.norm(dim=2) for one in units)
            most = settings.limit * w.clamp_min(settings.eps)
            scale = (most / g.clamp_min(1e-6)).where(g > most, 1.0)
            part.mul_(scale.view(*scale.shape, *[1] * (part.dim() - 2)))
    return gradient
