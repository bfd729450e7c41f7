import pytest
import torch
from conftest import make_spec

from whysgd.training.optimizers.sgd import sgd


@pytest.mark.parametrize("decay", [0.0, 5e-4])
@pytest.mark.parametrize(("momentum", "nesterov"), [(0.9, True), (0.9, False), (0.0, False)])
def test_sgd_is_torchs_to_the_bit_for_each_seed(momentum, nesterov, decay):
    settings = make_spec(momentum=momentum, nesterov=nesterov, weight_decay=decay)
    theta, state = torch.randn(3, 50), {}
    peers = [torch.nn.Parameter(row.clone()) for row in theta]
    theirs = torch.optim.SGD(peers, lr=1.0, momentum=momentum, nesterov=nesterov, weight_decay=decay, foreach=False)
    for step in range(5):
        gradient = torch.randn(3, 50)
        for row, peer in zip(gradient, peers, strict=True):
            peer.grad = row.clone()
        theirs.param_groups[0]["lr"] = 0.1 * step
        sgd(theta, state, gradient, 0.1 * step, settings)
        theirs.step()
        assert torch.equal(theta, torch.stack([peer.data for peer in peers]))
    assert set(state) == ({"momentum"} if momentum else set())
