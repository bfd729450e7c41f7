"""iyer2023's explore-exploit schedule."""

from whysgd.study.schedule import Schedule


def knee(settings: Schedule, lr: float, time: int, total: int | None) -> float:
    """Return lr · `knee_share` of the step at a time counted from 0."""
    return lr * knee_share(time + 1, settings.warmup, settings.warmup + settings.explore, total)


def knee_share(step: int, warmup: int, end: int, total: int) -> float:
    """Return η/peak at step s, counted from 1, with w = warmup and k = end of explore.

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
