"""A straight line to zero."""

from whysgd.study.schedule import HorizonSettings
from whysgd.training.schedules import in_units


def linear(lr: float, time: int, total: int | None, settings: HorizonSettings) -> float:
    """Return η(t) = lr · (1 − (t − w) / T), 0 past the horizon T; w is the warmup."""
    warmup = in_units(settings, settings.warmup, total)
    return lr * (1.0 - min((time - warmup) / settings.rest(warmup, total), 1.0))
