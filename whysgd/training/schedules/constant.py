"""A constant learning rate."""

from whysgd.study.schedule import Schedule
from whysgd.training.schedules import warmup_rate


def constant(settings: Schedule, lr: float, time: int, total: int | None) -> float:
    """Return lr after the warmup."""
    rising = warmup_rate(settings, lr, time)
    return lr if rising is None else rising
