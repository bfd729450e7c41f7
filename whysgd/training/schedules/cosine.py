"""Cosine decay."""

import math

from whysgd.study.schedule import HorizonSettings
from whysgd.study.settings import Share
from whysgd.training.schedules import warmup_rate


class CosineSettings(HorizonSettings):
    """A cosine's fall to zero, or to a floor."""

    floor: Share = 0.0
    """Lowest rate, as a share of the peak."""


def cosine(settings: CosineSettings, lr: float, time: int, total: int | None) -> float:
    """Return lr · (f + (1 − f) · ½(1 + cos(π s / T))) at time s of the clock, for floor f and horizon T; f · lr past T.

    Source: Loshchilov and Hutter, SGDR, 2017; the clock (`DecaySettings.clock`) and a floor of 1/25 are geiping2022's.
    """
    rising = warmup_rate(settings, lr, time)
    progress = min(settings.clock(time) / settings.horizon, 1.0)
    share = 0.5 * (1.0 + math.cos(math.pi * progress))
    return lr * (settings.floor + (1.0 - settings.floor) * share) if rising is None else rising
