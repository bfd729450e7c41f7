"""A constant learning rate."""

from whysgd.study.schedule import ScheduleSettings


def constant(lr: float, time: int, total: int | None, settings: ScheduleSettings) -> float:
    """Return η = lr."""
    return lr
