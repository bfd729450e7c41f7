"""Learning rates in closed form: η as a function of time, with no state to save."""

import bisect
import math

from whysgd.study.spec import Schedule

# One-cycle, as torch's OneCycleLR has it: the share of the run in which the rate rises, peak over first rate, and first
# over last rate.
RISING, FIRST, LAST = 0.3, 25.0, 1e4


def learning_rate(schedule: Schedule, lr: float, time: int, total: int | None = None) -> float:
    """η at a time counted from 0 in units of the schedule (epochs or steps).

    With warmup w and horizon T:

        η(t) = lr · t / w                                  for t < w   (so the first unit runs at 0)
        η(t) = lr                                          decay "constant"
        η(t) = lr · ½(1 + cos(π (t − w) / T)), 0 past T    decay "cosine"
        η(t) = lr · (1 − (t − w) / T), 0 past T            decay "linear"
        η(t) = lr · factor^(number of milestones ≤ t)      decay "step"

    and two decays that take the whole run, see `knee` and `one_cycle`. The clock of cosine and linear starts when the
    warmup ends, as in geiping2022's released code; w, T and milestones need not be whole numbers.

    In unit "run" the time is an optimizer step, and the schedule's times are shares of `total` steps, rounded to whole
    ones. A horizon that is not given is the rest of the run, total − w.

    Args:
        schedule: of epochs and steps, which one is the caller's affair.
        lr: the peak learning rate.
        time: whole units that have passed, steps in unit "run".
        total: steps of the run; only needed in unit "run".
    """
    warmup, horizon, milestones = schedule.warmup, schedule.horizon, schedule.milestones or ()
    if schedule.unit == "run":
        warmup = round(warmup * total)
        # At least a step: a share may round to none.
        horizon = max(1, total - warmup if horizon is None else round(horizon * total))
        milestones = [round(share * total) for share in milestones]
    if schedule.decay == "knee":
        # Rounded together, the two never exceed the run.
        return lr * knee(time + 1, warmup, round((schedule.warmup + schedule.explore) * total), total)
    if schedule.decay == "one-cycle":
        return one_cycle(lr, time, total)
    if time < warmup:
        return lr * time / warmup
    if schedule.decay == "constant":
        return lr
    if schedule.decay == "step":
        factor = 0.1 if schedule.factor is None else schedule.factor
        return lr * factor ** bisect.bisect_right(milestones, time)
    progress = min((time - warmup) / horizon, 1.0)
    if schedule.decay == "linear":
        return lr * (1.0 - progress)
    return lr * 0.5 * (1.0 + math.cos(math.pi * progress))


def knee(step: int, warmup: int, end: int, total: int) -> float:
    """η/peak of iyer2023's explore-exploit schedule at step s, counted from 1, with w = warmup and k = end of explore.

        s / w                 s ≤ w
        1                     w < s ≤ k
        (T − s) / (T − k)     s > k, so the rate of the last step, T, is 0

    For anyone's training loop, the same as a scheduler of torch is `whysgd.training.knee.KneeLRScheduler`.

    Source: Iyer et al. 2023, section 4 and released code.
    """
    if step <= warmup:
        return step / warmup
    if step <= end:
        return 1.0
    return max(0.0, (total - step) / max(1, total - end))


def one_cycle(peak: float, time: int, total: int) -> float:
    """η of the one-cycle schedule at step t, counted from 0: three linear phases.

        from peak/25 to peak                  until step 0.3·T − 1
        from peak to peak/25                  until step 0.6·T − 2
        from peak/25 to peak/25/10⁴           until the last step, T − 1

    These are torch's OneCycleLR with three_phase=True, anneal_strategy="linear" and its defaults for the rest; the
    momentum does not cycle.

    Source: Smith and Topin, Super-Convergence, 2018 (arXiv 1708.07120), in torch's form.
    """
    first = peak / FIRST
    last = first / LAST
    phases = ((RISING * total - 1, first, peak), (2 * RISING * total - 2, peak, first), (total - 1, first, last))
    start = 0.0
    for end, low, high in phases:
        if time <= end:
            return low + (high - low) * (time - start) / (end - start)
        start = end
    return last
