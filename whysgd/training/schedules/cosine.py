"""Cosine decay."""

import math

from whysgd.study.schedule import HorizonSettings
from whysgd.training.schedules import warmup_rate


def cosine(settings: HorizonSettings, lr: float, time: int, total: int | None) -> float:
    """Return lr · ½(1 + cos(π (t − w) / T)) for warmup w and horizon T, 0 past T.

    Source: the clock starts when the warmup ends, as in geiping2022's released code.
    """
    rising = warmup_rate(settings, lr, time)
    progress = min((time - settings.warmup) / settings.horizon, 1.0)
    return lr * 0.5 * (1.0 + math.cos(math.pi * progress)) if rising is None else rising
