import copy

import pytest
import torch

from whysgd import KneeLRScheduler


def optimizer_of(*rates, kind=torch.optim.SGD):
    return kind([{"params": [torch.nn.Parameter(torch.ones(2))], "lr": rate} for rate in rates])


def rates_of(optimizer, scheduler, steps):
    """The rates with which each optimizer step is made."""
    rates = []
    for _ in range(steps):
        rates.append([group["lr"] for group in optimizer.param_groups])
        for group in optimizer.param_groups:
            group["params"][0].grad = torch.ones(2)
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize(
    ("warmup", "explore", "total", "expected"),
    [
        (4, 3, 12, [0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0, 0.8, 0.6, 0.4, 0.2, 0.0, 0.0, 0.0]),
        (0, 0, 4, [0.75, 0.5, 0.25, 0.0]),
        (0, 4, 4, [1.0, 1.0, 1.0, 1.0, 0.0]),
        (2, 0, 4, [0.5, 1.0, 0.5, 0.0]),
        (3, 0, 3, [1 / 3, 2 / 3, 1.0, 0.0]),
        (0, 0, 0, [0.0, 0.0]),
    ],
)
def test_warmup_explore_and_exploit_in_closed_form(warmup, explore, total, expected):
    optimizer = optimizer_of(0.1)
    rates = rates_of(optimizer, KneeLRScheduler(optimizer, 1.0, warmup, explore, total), len(expected))
    assert [rate for (rate,) in rates] == pytest.approx(expected)


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam, torch.optim.RMSprop])
def test_any_optimizer_and_a_peak_for_each_group(kind):
    optimizer = optimizer_of(1.0, 1.0, kind=kind)
    rates = rates_of(optimizer, KneeLRScheduler(optimizer, [0.1, 0.4], 2, 1, 6), 6)
    assert rates == [pytest.approx([0.1 * s, 0.4 * s]) for s in (0.5, 1, 1, 2 / 3, 1 / 3, 0)]


def test_the_state_is_saved_and_restored():
    optimizer = optimizer_of(1.0)
    scheduler = KneeLRScheduler(optimizer, 0.5, 3, 4, 20)
    whole = rates_of(optimizer, scheduler, 20)
    first = optimizer_of(1.0)
    scheduler = KneeLRScheduler(first, 0.5, 3, 4, 20)
    begun = rates_of(first, scheduler, 9)
    saved = copy.deepcopy((first.state_dict(), scheduler.state_dict()))
    second = optimizer_of(1.0)
    other = KneeLRScheduler(second, 99.0, 0, 0, 1)
    second.load_state_dict(saved[0])
    other.load_state_dict(saved[1])
    assert begun + rates_of(second, other, 11) == whole


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"peak_lr": 0}, "peak_lr = 0: must be above 0"),
        ({"peak_lr": [0.1, 0.2]}, "2 rates were given for 1 parameter groups"),
        ({"warmup_steps": -1}, "warmup_steps = -1: must be a whole number of at least 0"),
        ({"explore_steps": 1.5}, "explore_steps = 1.5: must be a whole number"),
        ({"warmup_steps": 3, "explore_steps": 3, "total_steps": 5}, r"total_steps = 5: must be at least warmup_steps \+ explore_steps"),
    ],
)  # fmt: skip
def test_what_does_not_add_up_is_refused(arguments, problem):
    with pytest.raises(ValueError, match=problem):
        KneeLRScheduler(optimizer_of(0.1), **{"peak_lr": 0.1, "total_steps": 10, **arguments})
