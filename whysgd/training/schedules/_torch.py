"""Learning rates by the schedulers of torch.optim.lr_scheduler."""

from functools import lru_cache

import torch

from whysgd.study.registry import options_for
from whysgd.study.schedule import ScheduleSettings


def rate(scheduler: type, settings: ScheduleSettings, lr: float, time: int) -> float:
    """Return the rate that a scheduler gives after so many of its steps, one in each epoch or step."""
    rates = _rates(scheduler, settings.model_dump_json(), settings, lr)
    while len(rates.found) <= time:
        rates.step()
    return rates.found[time]


@lru_cache(maxsize=8)
def _rates(scheduler: type, key: str, settings: ScheduleSettings, lr: float) -> "_Rates":
    return _Rates(scheduler, settings, lr)


class _Rates:
    """The rates of a scheduler, as far as they have been asked for."""

    def __init__(self, scheduler: type, settings: ScheduleSettings, lr: float):
        self.optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
        self.scheduler = scheduler(self.optimizer, **options_for("schedule", scheduler, settings))
        self.found = self._now()

    def _now(self) -> list[float]:
        return [group["lr"] for group in self.optimizer.param_groups]

    def step(self) -> None:
        """Let one more epoch, or step, pass."""
        self.optimizer.step()
        self.scheduler.step()
        self.found += self._now()
