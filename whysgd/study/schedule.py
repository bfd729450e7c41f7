"""What a run's learning-rate schedule is; `whysgd.training.schedules` says what rate it gives."""

import math
from dataclasses import dataclass

UNITS = ("epoch", "step", "run")
# The decays of a schedule: the units that each can have, and what it takes beside unit and warmup.
DECAYS = {
    "constant": (UNITS, ()),
    "cosine": (UNITS, ("horizon",)),
    "linear": (UNITS, ("horizon",)),
    "step": (UNITS, ("milestones", "factor")),
    "knee": (("run",), ("explore",)),
    "one-cycle": (("run",), ()),
}


@dataclass(frozen=True)
class Schedule:
    """Learning rate over time; see `whysgd.training.schedules`. All times are in units of `unit`.

    Attributes:
        unit: one of `UNITS`. With "run", times are shares of the run's steps, the same at every scale, and the rate
            changes with each step.
        warmup: from 0 to the peak; one-cycle has its own, and 0 here.
        decay: one of `DECAYS`, which says what it takes.
        horizon: of cosine and linear, from the end of the warmup to zero; None, in unit "run", is the rest of the run.
        explore: of knee, the time at the peak.
        milestones: of step, the times, from the start of the run, at each of which the rate is multiplied by `factor`.
        factor: of step; None is 0.1.
    """

    unit: str
    warmup: float
    decay: str
    horizon: float | None = None
    explore: float | None = None
    milestones: tuple[float, ...] | None = None
    factor: float | None = None


def real(value, least: float = -math.inf) -> bool:
    """Whether a value is a finite number, and at least so large."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= least


def schedule_problem(schedule: Schedule) -> str | None:
    """Why a schedule cannot be, or None. Whether its times fit a run in epochs or steps is its caller's to know."""
    unit, decay, milestones = schedule.unit, schedule.decay, schedule.milestones
    if decay not in DECAYS:
        return f"schedule.decay = {decay!r}: allowed: {', '.join(DECAYS)}"
    units, takes = DECAYS[decay]
    if unit not in units:
        return f"schedule.unit = {unit!r}: {decay} allows: {', '.join(units)}"
    for name in ("horizon", "explore", "milestones", "factor"):
        value = getattr(schedule, name)
        if name not in takes and value is not None:
            return f"schedule.{name} = {value!r}: {decay} has none"
        optional = name == "factor" or (name == "horizon" and unit == "run")
        if name in takes and value is None and not optional:
            return f"schedule.{name}: {decay} in units of {unit} needs it"
    most, within = (1, " and at most 1, the run") if unit == "run" else (math.inf, "")
    for name in ("warmup", "explore"):
        value = getattr(schedule, name)
        if name in ("warmup", *takes) and not (real(value, 0) and value <= most):
            return f"schedule.{name} = {value!r}: must be at least 0{within}"
    for name in ("horizon", "factor"):
        value = getattr(schedule, name)
        if value is not None and not (real(value) and value > 0):
            return f"schedule.{name} = {value!r}: must be above 0"
    if milestones is not None:
        rises = all(real(time, schedule.warmup) for time in milestones) and list(milestones) == sorted(set(milestones))
        if not (milestones and rises and milestones[-1] <= most):
            return f"schedule.milestones = {list(milestones)!r}: must rise, from the end of the warmup on{within}"
    if decay == "one-cycle" and schedule.warmup:
        return f"schedule.warmup = {schedule.warmup!r}: must be 0, one-cycle has its own"
    if decay == "knee" and schedule.warmup + schedule.explore > 1:
        return f"schedule.explore = {schedule.explore!r}: warmup and explore must be at most 1, the run, together"
    return None
