"""Schedules of the learning rate, one file each: `schedule(settings, lr, time, total)` returns η, a float.

`lr` is the peak, `time` counts from 0 in the settings' own unit (epochs or steps) and `total` is the run's length in
steps. η is a function of time, so a schedule has no state to save. The function has the name of its file. In the unit
"run", whose times are shares of the run, it is given settings with times in whole steps.
"""

import math

from whysgd.study.registry import find
from whysgd.study.schedule import ScheduleSettings


def learning_rate(settings: ScheduleSettings, lr: float, time: int, total: int | None = None) -> float:
    """Return η at a time.

    Args:
        settings: which schedule.
        lr: the peak learning rate.
        time: whole epochs or steps that have passed; steps in unit "run".
        total: steps of the run; only needed in unit "run".
    """
    schedule = find("schedule", settings.decay)
    if isinstance(schedule, type):
        from whysgd.training.schedules._torch import rate

        rising = warmup_rate(settings, lr, time)
        return rate(schedule, settings, lr, math.floor(settings.clock(time))) if rising is None else rising
    return schedule(settings.in_steps(total) if settings.unit == "run" else settings, lr, time, total)


def warmup_rate(settings: ScheduleSettings, lr: float, time: int) -> float | None:
    """Return lr · t / w during a warmup of w, so that the first unit runs at 0, and None after it."""
    return lr * time / settings.warmup if time < settings.warmup else None
