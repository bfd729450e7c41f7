import pytest
import torch
from networks import Smooth, dense, grouped, plain_loss, random_batches, smooth_objective, theta_of
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from whysgd.models.build import build_model
from whysgd.training.objective import Objective, ParameterVector


def test_views_and_vector_are_inverse():
    model = Smooth().double()
    places = ParameterVector(model.named_parameters())
    named = {name: p.detach() for name, p in model.named_parameters()}
    vector = places.vector(named)
    assert all(torch.equal(view, named[name]) for name, view in places.views(vector).items())
    stacked = places.views(torch.stack([vector, 2 * vector]))
    assert all(torch.equal(view[1], 2 * named[name]) for name, view in stacked.items())
    assert torch.equal(places.vector(stacked, lead=1), torch.stack([vector, 2 * vector]))


@pytest.mark.parametrize("count", [1, 3])
def test_losses_and_gradients_of_micro_batches_are_those_of_each(count):
    objective, theta = smooth_objective()
    batches = random_batches([4] * count)
    images, labels = (part[0] for part in grouped([batches], count)[0])
    thetas = theta + 0.1 * torch.randn(count, len(theta), dtype=torch.float64)
    losses, gradients, _ = objective.gradients(thetas, images, labels)
    for i, (x, y) in enumerate(batches):
        at = thetas[i].clone().requires_grad_()
        loss = plain_loss(objective.model, objective.parameters, at, x, y)
        torch.testing.assert_close(losses[i], loss.detach(), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(gradients[i], torch.autograd.grad(loss, at)[0], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("most", [1, 2, 3])
def test_running_statistics_are_torchs_after_passes_one_by_one(most):
    objective, theta = smooth_objective()
    peer = Smooth().double()
    peer.load_state_dict(objective.model.state_dict())
    with torch.no_grad():
        for parameter, value in zip(peer.parameters(), objective.parameters.views(theta).values(), strict=True):
            parameter.copy_(value)
    running = objective.buffers.vector(dict(peer.named_buffers()))
    batches = random_batches([4, 4, 3, 3, 2])
    groups = [(images[0], labels[0]) for images, labels in grouped([batches], most)]
    statistics = [objective.losses(theta.expand(len(labels), -1), images, labels)[1] for images, labels in groups]
    running = 0.9 ** len(batches) * running + objective.statistic_weights(len(batches), theta) @ torch.cat(statistics)
    for x, _ in batches:
        peer.train()(x)
    torch.testing.assert_close(running, objective.buffers.vector(dict(peer.named_buffers())), rtol=1e-12, atol=1e-12)
    expected = peer.eval()(batches[0][0])
    torch.testing.assert_close(objective.logits(theta, running, batches[0][0]), expected, rtol=1e-12, atol=1e-12)


def test_the_network_handed_in_is_never_changed():
    objective, theta = smooth_objective()
    before = {name: tensor.clone() for name, tensor in objective.model.state_dict().items()}
    images, labels = (part[0] for part in grouped([random_batches([4, 4])], 2)[0])
    objective.gradients(theta.expand(2, -1), images, labels)
    objective.logits(theta, torch.ones(4, dtype=torch.float64), images[0])
    assert all(torch.equal(before[name], tensor) for name, tensor in objective.model.state_dict().items())


def test_a_differentiable_gradient_is_the_hessians():
    objective, theta = smooth_objective()
    (x, y), *_ = random_batches([4])
    g, hessian = dense(objective, theta, x, y)
    at = theta[None].clone().requires_grad_()
    _, gradient, _ = objective.gradients(at, x[None], y[None], differentiable=True)
    torch.testing.assert_close(gradient[0].detach(), g, rtol=1e-10, atol=1e-12)
    (row,) = torch.autograd.grad(gradient[0, 5], at)
    torch.testing.assert_close(row[0], hessian[5], rtol=1e-8, atol=1e-10)


def test_the_dense_truth_is_the_difference_quotient_of_gradients():
    objective, theta = smooth_objective()
    (x, y), *_ = random_batches([4])
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


def test_other_batch_norms_keep_statistics_and_other_buffers_stay_as_they_are():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.flat, self.linear, self.norm = nn.Flatten(), nn.Linear(4, 3), nn.BatchNorm1d(3)
            self.register_buffer("mask", torch.tensor([1.0, 0.5, 0.0, 2.0]))

        def forward(self, images):
            return self.norm(self.linear(self.flat(images) * self.mask))

    model = Masked().double()
    objective = Objective(model)
    theta = theta_of(objective)[None]
    images = torch.rand(1, 8, 1, 2, 2, dtype=torch.float64)
    logits, statistics = objective.forward(theta, images)
    assert objective.buffers.names == ["norm.running_mean", "norm.running_var"]
    assert objective.momentum == 0.1
    # torch's own, from the statistics that it starts with.
    expected = model.train()(images[0])
    torch.testing.assert_close(logits[0], expected)
    start = torch.tensor([0.0] * 3 + [1.0] * 3, dtype=torch.float64)
    own = torch.cat([model.norm.running_mean, model.norm.running_var])
    torch.testing.assert_close(0.9 * start + statistics[0], own)


def test_on_a_gpu_a_network_reads_parameters_that_begin_at_multiples_of_16_bytes():
    places = ParameterVector([("weight", torch.zeros(2, 3)), ("bias", torch.zeros(4))])
    with FakeTensorMode():  # Shapes, places and devices of tensors, without a GPU.
        theta = torch.empty(2, 10, device="cuda")
        read, views = ([found(row) for row in theta] for found in (places.inputs, places.views))
    assert {4 * view.storage_offset() % 16 for named in read for view in named.values()} == {0}
    assert read[1]["bias"].storage_offset() == 16, "a view that is aligned stays one"
    # What optimizers and transforms write into.
    assert [view.storage_offset() for named in views for view in named.values()] == [0, 6, 10, 16]
    assert [view.storage_offset() for view in places.inputs(torch.empty(2, 10)[1]).values()] == [10, 16]
