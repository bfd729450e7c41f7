"""Steps down at milestones."""

import bisect
from typing import Annotated

from pydantic import Field, model_validator

from whysgd.study.schedule import ScheduleSettings
from whysgd.study.settings import NotNegative, Positive
from whysgd.training.schedules import in_units


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


def step(lr: float, time: int, total: int | None, settings: StepSettings) -> float:
    """Return η(t) = lr · factor^(number of milestones ≤ t)."""
    milestones = [in_units(settings, milestone, total) for milestone in settings.milestones]
    return lr * settings.factor ** bisect.bisect_right(milestones, time)
