import math

import pytest
import torch

from whysgd.training.sgd import fused_sgd_step, sgd_step
from whysgd.training.watch import LossWatch

CPU = torch.device("cpu")


def test_on_a_cpu_a_loss_is_seen_at_once():
    watch = LossWatch(CPU)
    for loss, fine in ((1.0, True), (2.0, True), (math.nan, False), (1.0, False)):
        watch.add(torch.tensor(loss))
        assert watch.finite() is fine


@pytest.mark.parametrize("bad", [math.inf, math.nan, -math.inf])
def test_with_a_lag_it_is_seen_that_many_steps_later_or_when_one_waits(bad):
    late, waited = LossWatch(CPU, lag=2), LossWatch(CPU, lag=2)
    for watch in (late, waited):
        watch.add(torch.tensor(1.0))
        watch.add(torch.tensor(bad))
        assert watch.finite()
        assert not watch.unread_finite()
    late.add(torch.tensor(1.0))
    assert late.finite()
    late.add(torch.tensor(1.0))
    assert not late.finite()
    assert not waited.finite(wait=True)


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.9, True), (0.9, False), (0.0, False)])
def test_the_fused_step_of_a_gpu_is_ours(momentum, nesterov):
    torch.manual_seed(0)
    ours = [torch.randn(50, dtype=torch.float64), torch.zeros(50, dtype=torch.float64)]
    fused = [tensor.clone() for tensor in ours]
    for step in range(5):
        gradient = torch.randn(50, dtype=torch.float64)
        sgd_step(*ours, gradient, 0.1 * step, momentum, nesterov, 5e-4)
        fused_sgd_step(*fused, gradient.clone(), 0.1 * step, momentum, nesterov, 5e-4)
    torch.testing.assert_close(fused[0], ours[0], rtol=1e-12, atol=1e-12)
    if momentum:
        torch.testing.assert_close(fused[1], ours[1], rtol=1e-12, atol=1e-12)
