import math

import pytest
import torch

from whysgd.spec import Schedule
from whysgd.training.schedules import learning_rate


def test_warmup_begins_at_zero_and_the_cosine_clock_starts_when_it_ends():
    schedule = Schedule("epoch", 5, "cosine", 300)
    rates = [learning_rate(schedule, 0.1, t) for t in range(300)]
    assert rates[:6] == pytest.approx([0.0, 0.02, 0.04, 0.06, 0.08, 0.1])
    assert rates[155] == pytest.approx(0.05)
    # 300 epochs with a warmup of 5 end just above zero.
    assert rates[299] == pytest.approx(0.1 * 0.5 * (1 + math.cos(math.pi * 294 / 300)))
    assert 0 < rates[299] < 1e-3


def test_the_long_runs_never_decay_to_zero():
    schedule = Schedule("epoch", 400, "cosine", 4000)
    assert learning_rate(schedule, 0.4, 400) == 0.4
    assert learning_rate(schedule, 0.4, 2999) == pytest.approx(0.2 * (1 + math.cos(math.pi * 2599 / 4000)))
    assert learning_rate(schedule, 0.4, 4400) == pytest.approx(0, abs=1e-15)
    assert learning_rate(schedule, 0.4, 9999) == pytest.approx(0, abs=1e-15)


def test_after_the_warmup_it_is_torchs_cosine():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    peer = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 40)
    for time in range(40):
        assert learning_rate(Schedule("step", 7, "cosine", 40), 0.3, 7 + time) == pytest.approx(peer.get_last_lr()[0])
        optimizer.step()
        peer.step()


def test_times_need_not_be_whole():
    schedule = Schedule("epoch", 0.5, "cosine", 30.0)
    assert learning_rate(schedule, 1.0, 0) == 0
    assert learning_rate(schedule, 1.0, 1) == pytest.approx(0.5 * (1 + math.cos(math.pi * 0.5 / 30)))


def test_constant():
    schedule = Schedule("step", 0, "constant", 1)
    assert [learning_rate(schedule, 0.2, t) for t in (0, 1, 1000)] == [0.2] * 3
