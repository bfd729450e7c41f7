"""Learning rates in closed form, one file each: η as a function of time, with no state to save.

A schedule is a function `schedule(lr, time, total, settings) -> float` for a time after the warmup. Importing this
loads no torch.
"""

from whysgd.study.registry import find
from whysgd.study.schedule import ScheduleSettings


def learning_rate(schedule: ScheduleSettings, lr: float, time: int, total: int | None = None) -> float:
    """Return η at a time counted from 0 in units of the schedule (epochs or steps); lr · t / w for t < w, the warmup.

    The clock of cosine and linear starts when the warmup ends, as in geiping2022's released code; times need not be
    whole numbers. In unit "run" the time is an optimizer step, and the schedule's times are shares of `total` steps,
    rounded to whole ones.

    Args:
        schedule: its settings.
        lr: the peak learning rate.
        time: whole units that have passed, steps in unit "run".
        total: steps of the run; only needed in unit "run".
    """
    warmup = in_units(schedule, schedule.warmup, total)
    if time < warmup and not getattr(schedule, "own_warmup", False):
        return lr * time / warmup
    return find("schedule", schedule.decay)(lr, time, total, schedule)


def in_units(schedule: ScheduleSettings, time: float, total: int | None) -> float:
    """Return a time of the schedule in epochs or steps: of the run's shares, whole steps."""
    return round(time * total) if schedule.unit == "run" else time
