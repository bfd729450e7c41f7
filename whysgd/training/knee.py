"""iyer2023's explore-exploit schedule for anyone's training loop."""

from collections.abc import Sequence

import torch

from whysgd.training.schedules.knee import knee_share


class KneeLRScheduler(torch.optim.lr_scheduler.LRScheduler):
    """Knee: linear warmup to the peak, explore at the peak, then linear decay to zero.

    At optimizer step s, counted from 1, with w warmup, e explore and T total steps:

        η(s) = peak · s / w                          s ≤ w
        η(s) = peak                                  w < s ≤ w + e
        η(s) = peak · (T − s) / (T − w − e), ≥ 0     s > w + e

    The constructor sets the rate of the first step; `step()` is called after each optimizer step, as with any scheduler
    of torch. The rate of step T, and of any later one, is 0.

    Args:
        optimizer: any, with any parameter groups.
        peak_lr: the largest rate, one for all groups or one for each.
        warmup_steps, explore_steps, total_steps: w, e and T, whole numbers, w + e at most T.
        last_epoch: steps already made, minus one; -1 begins anew. To continue, load a state dict instead.

    Raises:
        ValueError: a rate that is not above 0, as many rates as there are no groups, or steps that do not add up.

    Example:
        >>> scheduler = KneeLRScheduler(optimizer, peak_lr=0.1, warmup_steps=0, explore_steps=100, total_steps=200)
        >>> for inputs, labels in batches:
        ...     loss_fn(model(inputs), labels).backward()
        ...     optimizer.step()
        ...     scheduler.step()

    Source: Iyer et al. 2023, section 4 and released code.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        peak_lr: float | Sequence[float],
        warmup_steps: int = 0,
        explore_steps: int = 0,
        total_steps: int = 0,
        last_epoch: int = -1,
    ):
        groups = len(optimizer.param_groups)
        peaks = list(peak_lr) if isinstance(peak_lr, Sequence) else [peak_lr] * groups
        if len(peaks) != groups:
            raise ValueError(f"peak_lr: {len(peaks)} rates were given for {groups} parameter groups")
        if not all(peak > 0 for peak in peaks):
            raise ValueError(f"peak_lr = {peak_lr!r}: must be above 0")
        steps = {"warmup_steps": warmup_steps, "explore_steps": explore_steps, "total_steps": total_steps}
        for name, value in steps.items():
            if not isinstance(value, int) or value < 0:
                raise ValueError(f"{name} = {value!r}: must be a whole number of at least 0")
        if warmup_steps + explore_steps > total_steps:
            raise ValueError(f"total_steps = {total_steps}: must be at least warmup_steps + explore_steps")
        self.peaks = [float(peak) for peak in peaks]
        self.warmup_steps, self.explore_steps, self.total_steps = warmup_steps, explore_steps, total_steps
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The rate of each group for the next optimizer step."""
        return [peak * self.share(self.last_epoch + 1) for peak in self.peaks]

    def share(self, step: int) -> float:
        """η(step)/peak, for a step counted from 1."""
        return knee_share(step, self.warmup_steps, self.warmup_steps + self.explore_steps, self.total_steps)
