"""Learning rates in closed form: η as a function of time, with no state to save."""

import math

from whysgd.spec import Schedule


def learning_rate(schedule: Schedule, lr: float, time: int) -> float:
    """η at a time counted from 0 in units of the schedule (epochs or steps).

    With warmup w and horizon T:

        η(t) = lr · t / w                                  for t < w   (so the first unit runs at 0)
        η(t) = lr                                          decay "constant"
        η(t) = lr · ½(1 + cos(π (t − w) / T)), 0 past T    decay "cosine"

    The cosine clock starts when the warmup ends, as in geiping2022's released code; w and T need not
    be whole numbers.

    Args:
        schedule: its unit is the caller's affair.
        lr: the peak learning rate.
        time: whole units that have passed.
    """
    if time < schedule.warmup:
        return lr * time / schedule.warmup
    if schedule.decay == "constant":
        return lr
    progress = min((time - schedule.warmup) / schedule.horizon, 1.0)
    return lr * 0.5 * (1.0 + math.cos(math.pi * progress))
