"""Half a period of the cosine."""

import math

from whysgd.study.schedule import HorizonSettings
from whysgd.training.schedules import in_units


def cosine(lr: float, time: int, total: int | None, settings: HorizonSettings) -> float:
    """Return η(t) = lr · ½(1 + cos(π (t − w) / T)), 0 past the horizon T; w is the warmup."""
    warmup = in_units(settings, settings.warmup, total)
    progress = min((time - warmup) / settings.rest(warmup, total), 1.0)
    return lr * 0.5 * (1.0 + math.cos(math.pi * progress))
