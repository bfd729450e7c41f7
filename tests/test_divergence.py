import math

import pytest
import torch

from whysgd.training.divergence import DivergenceCheck

CPU = torch.device("cpu")


def test_on_a_cpu_a_loss_is_seen_at_once_and_remembered():
    check = DivergenceCheck(2, CPU)
    for second, diverged in ((2.0, False), (math.nan, True), (1.0, True)):
        check.add(torch.tensor([1.0, second]))
        assert check.read() == [False, diverged]


@pytest.mark.parametrize("bad", [math.inf, math.nan, -math.inf])
def test_with_a_lag_it_is_seen_that_many_steps_later_or_when_one_waits(bad):
    late, waited = DivergenceCheck(1, CPU, lag=2), DivergenceCheck(1, CPU, lag=2)
    for check in (late, waited):
        check.add(torch.tensor([1.0]))
        check.add(torch.tensor([bad]))
        assert check.read() == [False]
        assert not check.unread_finite()
    late.add(torch.tensor([1.0]))
    assert late.read() == [False]
    late.add(torch.tensor([1.0]))
    assert late.read() == [True]
    assert waited.read(wait=True) == [True]
