"""Decay by steps."""

import bisect
from typing import Annotated

from pydantic import Field, model_validator

from whysgd.study.schedule import ScheduleSettings
from whysgd.study.settings import NotNegative, Positive
from whysgd.training.schedules import warmup_rate


class StepSettings(ScheduleSettings):
    """Multiply the rate by a factor at each milestone."""

    milestones: Annotated[tuple[NotNegative, ...], Field(min_length=1)]
    """Units from the start of the run, at each of which the rate is multiplied by `factor`."""
    factor: Positive = 0.1
    """What the rate is multiplied by."""

    @model_validator(mode="after")
    def _rises(self):
        times, most = self.milestones, 1 if self.unit == "run" else float("inf")
        if list(times) != sorted(set(times)) or times[0] < self.warmup or times[-1] > most:
            within = " and at most 1, the run" if self.unit == "run" else ""
            raise ValueError(f"milestones = {list(times)!r}: must rise, from the end of the warmup on{within}")
        return self

    def in_steps(self, total: int) -> "StepSettings":
        """Return the settings with times in steps."""
        milestones = tuple(round(share * total) for share in self.milestones)
        return super().in_steps(total).model_copy(update={"milestones": milestones})


def step(settings: StepSettings, lr: float, time: int, total: int | None) -> float:
    """Return lr · factor^(number of milestones ≤ t)."""
    rising = warmup_rate(settings, lr, time)
    return lr * settings.factor ** bisect.bisect_right(settings.milestones, time) if rising is None else rising
