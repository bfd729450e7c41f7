"""Schedules of the learning rate, one file each: `schedule(settings, lr, time, total)` returns η, a float.

`lr` is the peak, `time` counts from 0 in the settings' own unit (epochs or steps) and `total` is the run's length in
steps. η is a function of time, so a schedule has no state to save. The function has the name of its file.
"""

from dataclasses import replace
from importlib import import_module

from whysgd.study.schedule import Schedule


def learning_rate(settings: Schedule, lr: float, time: int, total: int | None = None) -> float:
    """Return η at a time.

    Args:
        settings: which schedule.
        lr: the peak learning rate.
        time: whole epochs or steps that have passed; steps in unit "run".
        total: steps of the run; only needed in unit "run".
    """
    name = settings.decay.replace("-", "_")
    schedule = getattr(import_module(f"{__name__}.{name}"), name)
    return schedule(in_steps(settings, total) if settings.unit == "run" else settings, lr, time, total)


def in_steps(settings: Schedule, total: int) -> Schedule:
    """Return settings in unit "run", whose times are shares of `total` steps, with times in whole steps.

    A horizon that is not given is the rest of the run.
    """
    warmup, horizon, explore = round(settings.warmup * total), settings.horizon, settings.explore
    # At least a step: a share may round to none.
    horizon = max(1, total - warmup if horizon is None else round(horizon * total))
    if explore is not None:
        # Rounded together, the two never exceed the run.
        explore = round((settings.warmup + explore) * total) - warmup
    milestones = settings.milestones and tuple(round(share * total) for share in settings.milestones)
    return replace(settings, unit="step", warmup=warmup, horizon=horizon, explore=explore, milestones=milestones)


def warmup_rate(settings: Schedule, lr: float, time: int) -> float | None:
    """Return lr · t / w during a warmup of w, so that the first unit runs at 0, and None after it."""
    return lr * time / settings.warmup if time < settings.warmup else None
