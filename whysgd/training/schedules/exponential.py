"""Exponential decay."""

from whysgd.study.schedule import DecaySettings
from whysgd.study.settings import Positive
from whysgd.training.schedules import warmup_rate


class ExponentialSettings(DecaySettings):
    """Multiply the rate by the same factor in every unit."""

    gamma: Positive
    """What a unit multiplies the rate by; of the unit `run`, the whole run. A scale keeps what the run does in all."""

    def in_steps(self, total: int) -> "ExponentialSettings":
        """Return the settings with times in steps."""
        return super().in_steps(total).model_copy(update={"gamma": self.gamma ** (1 / total)})


def exponential(settings: ExponentialSettings, lr: float, time: int, total: int | None) -> float:
    """Return lr · γ^s at time s of the clock."""
    rising = warmup_rate(settings, lr, time)
    return lr * settings.gamma ** settings.clock(time) if rising is None else rising
