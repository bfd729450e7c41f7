"""Decay by steps."""

import bisect

from whysgd.study.schedule import Schedule
from whysgd.training.schedules import warmup_rate


def step(settings: Schedule, lr: float, time: int, total: int | None) -> float:
    """Return lr · factor^(number of milestones ≤ t)."""
    rising = warmup_rate(settings, lr, time)
    factor = 0.1 if settings.factor is None else settings.factor
    return lr * factor ** bisect.bisect_right(settings.milestones, time) if rising is None else rising
