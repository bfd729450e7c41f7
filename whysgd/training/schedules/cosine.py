"""Cosine decay."""

import math

from whysgd.study.schedule import HorizonSettings
from whysgd.training.schedules import warmup_rate


def cosine(settings: HorizonSettings, lr: float, time: int, total: int | None) -> float:
    """Return lr · ½(1 + cos(π (t − w) / T)) for warmup w and horizon T, 0 past T.

    The clock starts when the warmup ends. Source: Loshchilov and Hutter, SGDR, 2017; geiping2022's released code
    starts it one unit later, and gives the peak twice.
    """
    rising = warmup_rate(settings, lr, time)
    progress = min((time - settings.warmup) / settings.horizon, 1.0)
    return lr * 0.5 * (1.0 + math.cos(math.pi * progress)) if rising is None else rising
