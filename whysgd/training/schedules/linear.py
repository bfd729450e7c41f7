"""Linear decay."""

from whysgd.study.schedule import HorizonSettings
from whysgd.training.schedules import warmup_rate


def linear(settings: HorizonSettings, lr: float, time: int, total: int | None) -> float:
    """Return lr · (1 − s / T) at time s of the clock, for horizon T; 0 past T."""
    rising = warmup_rate(settings, lr, time)
    progress = min(settings.clock(time) / settings.horizon, 1.0)
    return lr * (1.0 - progress) if rising is None else rising
