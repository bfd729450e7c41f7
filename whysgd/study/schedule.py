"""What all learning-rate schedules have in common; each is a file of `whysgd.training.schedules`."""

import math
from typing import ClassVar, Literal

from pydantic import model_validator

from whysgd.study.settings import NotNegative, Positive, Settings


class ScheduleSettings(Settings):
    """Learning rate over time. All times are in units of `unit`."""

    unit: Literal["epoch", "step", "run"]
    """Unit of all times; `run` stands for shares of the run, the same at every scale, counted in its steps."""
    warmup: NotNegative = 0.0
    """Time from 0 to the peak."""
    decay: str
    """What follows the warmup: a file of whysgd/training/schedules, a dotted path, or a class of
    torch.optim.lr_scheduler.
    """
    units: ClassVar[tuple[str, ...]] = ("epoch", "step", "run")

    @model_validator(mode="after")
    def _fits(self):
        if self.unit not in self.units:
            raise ValueError(f"unit = {self.unit!r}: {self.decay} allows: {', '.join(self.units)}")
        if self.unit == "run" and self.warmup > 1:
            raise ValueError(f"warmup = {self.warmup!r}: must be at most 1, the run")
        return self

    def in_steps(self, total: int) -> "ScheduleSettings":
        """Return the settings with times in whole steps, of settings whose times are shares of so many."""
        return self.model_copy(update={"unit": "step", "warmup": round(self.warmup * total)})


class DecaySettings(ScheduleSettings):
    """A decay whose clock starts after the warmup."""

    phase: Literal["released", "closed"] = "released"
    """When the decay's clock starts after a warmup: one unit late, as in geiping2022's released code, or at its end."""

    def clock(self, time: int) -> float:
        """Return the time on the decay's clock: t − ⌊w⌋ − 1, at least 0, as released, which gives the peak twice after
        a warmup of whole units; t − w in closed form, and without a warmup.
        """
        late = self.phase == "released" and self.warmup > 0
        return max(0, time - math.floor(self.warmup) - 1) if late else time - self.warmup


class HorizonSettings(DecaySettings):
    """A fall to zero over a horizon."""

    horizon: Positive | None = None
    """Units from the end of the warmup to zero; null, in the unit `run`, is the rest of it."""

    @model_validator(mode="after")
    def _needs_a_horizon(self):
        if self.horizon is None and self.unit != "run":
            raise ValueError(f"horizon: {self.decay} in units of {self.unit} needs it")
        return self

    def in_steps(self, total: int) -> "HorizonSettings":
        """Return the settings with times in steps; a share may round to none, but a step it is at least."""
        found = super().in_steps(total)
        horizon = total - found.warmup if self.horizon is None else round(self.horizon * total)
        return found.model_copy(update={"horizon": max(1, horizon)})
