"""iyer2023's explore-exploit schedule."""

from typing import ClassVar

from pydantic import model_validator

from whysgd.study.schedule import ScheduleSettings
from whysgd.study.settings import Share


class KneeSettings(ScheduleSettings):
    """Stay at the peak, then fall to zero in a straight line. Needs the unit `run`."""

    explore: Share
    """Share of the run at the peak."""
    units: ClassVar[tuple[str, ...]] = ("run",)

    @model_validator(mode="after")
    def _within_the_run(self):
        if self.warmup + self.explore > 1:
            raise ValueError(f"explore = {self.explore!r}: warmup and explore must be at most 1, the run, together")
        return self

    def in_steps(self, total: int) -> "KneeSettings":
        """Return the settings with times in steps; rounded together, the two never exceed the run."""
        found = super().in_steps(total)
        return found.model_copy(update={"explore": round((self.warmup + self.explore) * total) - found.warmup})


def knee(settings: KneeSettings, lr: float, time: int, total: int | None) -> float:
    """Return lr · `knee_share` of the step at a time counted from 0."""
    return lr * knee_share(time + 1, settings.warmup, settings.warmup + settings.explore, total)


def knee_share(step: int, warmup: int, end: int, total: int) -> float:
    """Return η/peak at a step, counted from 1, where `end` is that of explore; see `whysgd.training.knee`."""
    if step <= warmup:
        return step / warmup
    if step <= end:
        return 1.0
    return max(0.0, (total - step) / max(1, total - end))
