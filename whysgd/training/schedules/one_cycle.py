"""The one-cycle schedule."""

from typing import ClassVar

from pydantic import model_validator

from whysgd.study.schedule import ScheduleSettings

# As torch's OneCycleLR has it: the share of the run in which the rate rises, peak over first rate, and first over last.
RISING, FIRST, LAST = 0.3, 25.0, 1e4


class OneCycleSettings(ScheduleSettings):
    """Up, down and down again in straight lines. Needs the unit `run`; it has a warmup of its own."""

    units: ClassVar[tuple[str, ...]] = ("run",)

    @model_validator(mode="after")
    def _no_other_warmup(self):
        if self.warmup:
            raise ValueError(f"warmup = {self.warmup!r}: must be 0, one-cycle has its own")
        return self


def one_cycle(settings: OneCycleSettings, lr: float, time: int, total: int | None) -> float:
    """Return η at step t, counted from 0, in three linear phases of a run of T steps.

        from lr/25 to lr                  until step 0.3·T − 1
        from lr to lr/25                  until step 0.6·T − 2
        from lr/25 to lr/25/10⁴           until the last step, T − 1

    These are torch's OneCycleLR with three_phase=True, anneal_strategy="linear" and its defaults for the rest; the
    momentum does not cycle.

    Source: Smith and Topin, Super-Convergence, 2018 (arXiv 1708.07120), in torch's form.
    """
    first = lr / FIRST
    last = first / LAST
    phases = ((RISING * total - 1, first, lr), (2 * RISING * total - 2, lr, first), (total - 1, first, last))
    start = 0.0
    for end, low, high in phases:
        if time <= end:
            return low + (high - low) * (time - start) / (end - start)
        start = end
    return last
