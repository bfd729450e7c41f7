import pytest
import torch
from networks import Smooth, as_stacks, dense, plain_loss, random_blocks, smooth_objective
from torch import nn

from whysgd.models.build import build_model
from whysgd.training.objective import Layout, Objective


def test_views_and_vector_are_inverse():
    model = Smooth().double()
    layout = Layout(model.named_parameters())
    named = {name: p.detach() for name, p in model.named_parameters()}
    vector = layout.vector(named)
    assert all(torch.equal(view, named[name]) for name, view in layout.views(vector).items())
    stacked = layout.views(torch.stack([vector, 2 * vector]))
    assert all(torch.equal(view[1], 2 * named[name]) for name, view in stacked.items())
    assert torch.equal(layout.vector(stacked, lead=1), torch.stack([vector, 2 * vector]))


@pytest.mark.parametrize("copies", [False, True])
def test_losses_and_gradients_of_stacked_blocks_are_those_of_each(copies):
    objective, theta = smooth_objective()
    blocks = random_blocks([4, 4, 4])
    images, labels = as_stacks(blocks, 3)[0]
    thetas = theta.expand(3, -1) + (0.1 * torch.randn(3, len(theta), dtype=torch.float64) if copies else 0)
    losses, gradients, _ = objective.gradients(thetas, images, labels)
    for i, (x, y) in enumerate(blocks):
        at = thetas[i].clone().requires_grad_()
        loss = plain_loss(objective.model, objective.parameters, at, x, y)
        torch.testing.assert_close(losses[i], loss.detach(), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(gradients[i], torch.autograd.grad(loss, at)[0], rtol=1e-10, atol=1e-12)


def test_one_block_needs_no_stack_and_several_do():
    objective, theta = smooth_objective()
    (x, y), *_ = random_blocks([4])
    _, single, _ = objective.gradients(theta, x[None], y[None])
    _, stacked, _ = objective.gradients(theta[None], x[None], y[None])
    torch.testing.assert_close(single, stacked[0], rtol=1e-12, atol=1e-12)
    with pytest.raises(ValueError, match="a copy of θ each"):
        objective.gradients(theta, x.expand(2, *x.shape), y.expand(2, -1))


@pytest.mark.parametrize("most", [1, 2, 3])
def test_running_statistics_are_torchs_after_block_by_block_passes(most):
    objective, theta = smooth_objective()
    peer = Smooth().double()
    peer.load_state_dict(objective.model.state_dict())
    with torch.no_grad():
        for parameter, value in zip(peer.parameters(), objective.parameters.views(theta).values(), strict=True):
            parameter.copy_(value)
    running = objective.buffers.vector(dict(peer.named_buffers()))
    blocks = random_blocks([4, 4, 3, 3, 2])
    statistics = []
    for images, labels in as_stacks(blocks, most):
        copies = theta if len(labels) == 1 else theta.expand(len(labels), -1)
        statistics.append(objective.losses(copies, images, labels)[1])
    running = 0.9 ** len(blocks) * running + objective.statistic_weights(len(blocks), theta) @ torch.cat(statistics)
    for x, _ in blocks:
        peer.train()(x)
    torch.testing.assert_close(running, objective.buffers.vector(dict(peer.named_buffers())), rtol=1e-12, atol=1e-12)
    expected = peer.eval()(blocks[0][0])
    torch.testing.assert_close(objective.logits(theta, running, blocks[0][0]), expected, rtol=1e-12, atol=1e-12)


def test_the_network_handed_in_is_never_changed():
    objective, theta = smooth_objective()
    before = {name: tensor.clone() for name, tensor in objective.model.state_dict().items()}
    images, labels = as_stacks(random_blocks([4, 4]), 2)[0]
    objective.gradients(theta.expand(2, -1), images, labels)
    objective.logits(theta, torch.ones(4, dtype=torch.float64), images[0])
    assert all(torch.equal(before[name], tensor) for name, tensor in objective.model.state_dict().items())


def test_a_differentiable_gradient_is_the_hessians():
    objective, theta = smooth_objective()
    (x, y), *_ = random_blocks([4])
    g, hessian = dense(objective, theta, x, y)
    at = theta.clone().requires_grad_()
    _, gradient, _ = objective.gradients(at, x[None], y[None], differentiable=True)
    torch.testing.assert_close(gradient.detach(), g, rtol=1e-10, atol=1e-12)
    (row,) = torch.autograd.grad(gradient[5], at)
    torch.testing.assert_close(row, hessian[5], rtol=1e-8, atol=1e-10)


def test_the_dense_truth_is_the_difference_quotient_of_gradients():
    objective, theta = smooth_objective()
    (x, y), *_ = random_blocks([4])
    _, hessian = dense(objective, theta, x, y)
    steps = 1e-5 * torch.eye(len(theta), dtype=torch.float64)
    plus, minus = (torch.stack([dense(objective, theta + s * d, x, y)[0] for d in steps]) for s in (1, -1))
    torch.testing.assert_close(hessian, (plus - minus) / 2e-5, rtol=1e-6, atol=1e-8)


def test_norm_layers_of_different_momentum_are_refused():
    model = nn.Sequential(nn.BatchNorm2d(2), nn.BatchNorm2d(2, momentum=0.2))
    with pytest.raises(ValueError, match="share one momentum"):
        Objective(model)


def test_the_state_dict_of_a_real_network_is_complete():
    model = build_model("resnet_mini", 1, 10, 0)
    objective = Objective(model)
    names = {*objective.parameters.names, *objective.buffers.names, *objective.counters}
    assert names == set(model.state_dict())
