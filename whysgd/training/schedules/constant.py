"""A constant learning rate."""

from whysgd.study.schedule import ScheduleSettings
from whysgd.training.schedules import warmup_rate


def constant(settings: ScheduleSettings, lr: float, time: int, total: int | None) -> float:
    """Return lr after the warmup."""
    rising = warmup_rate(settings, lr, time)
    return lr if rising is None else rising
