"""Layers with a cheap double backward against torch's own, to second order, in float64."""

import pytest
import torch
from networks import narrow, theta_of
from torch.nn import functional as F

from whysgd.models.double_backward import batch_norm, convolution, double_backward, in_double_backward
from whysgd.training.objective import Objective


def two_orders(function, arguments):
    """Value, gradients of a random projection, and gradients of a random projection of those."""
    generator = torch.Generator().manual_seed(0)
    arguments = [argument.clone().requires_grad_() for argument in arguments]
    value = function(*arguments)
    weights = torch.randn(value.shape, generator=generator, dtype=torch.float64).requires_grad_()
    first = torch.autograd.grad((value * weights).sum(), arguments, create_graph=True)
    mixed = sum((g * torch.randn(g.shape, generator=generator, dtype=torch.float64)).sum() for g in first)
    second = torch.autograd.grad(mixed, [*arguments, weights], materialize_grads=True)
    return [value, *first, *second]


@pytest.mark.parametrize(
    ("stride", "padding", "dilation", "groups"),
    [(1, 1, 1, 1), (2, 1, 1, 1), (1, 0, 2, 1), (2, 1, 1, 3), ((2, 1), (1, 0), 1, 3)],
)
def test_convolution_has_torchs_derivatives_to_second_order(stride, padding, dilation, groups):
    torch.manual_seed(0)
    x, weight = torch.randn(4, 6, 7, 8), torch.randn(9, 6 // groups, 3, 3)
    geometry = [value if isinstance(value, tuple) else (value, value) for value in (stride, padding, dilation)]
    ours = two_orders(lambda x, w: convolution(x, w, *geometry, groups), [x.double(), weight.double()])
    theirs = two_orders(lambda x, w: F.conv2d(x, w, None, *geometry, groups), [x.double(), weight.double()])
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shape", [(5, 3, 4, 4), (2, 7, 1, 3), (9, 2, 1, 1)])
def test_batch_norm_has_torchs_derivatives_to_second_order(shape):
    torch.manual_seed(0)
    channels = shape[1]
    arguments = [2 * torch.randn(shape, dtype=torch.float64) + 1]
    arguments += [torch.randn(channels, dtype=torch.float64) for _ in range(2)]
    arguments[1][0] = 0.0  # a weight of zero divides nothing
    running = [[torch.zeros(channels).double(), torch.ones(channels).double()] for _ in range(2)]
    ours = two_orders(lambda x, w, b: batch_norm(x, *running[0], w, b, 0.1, 1e-5), arguments)
    theirs = two_orders(lambda x, w, b: F.batch_norm(x, *running[1], w, b, True, 0.1, 1e-5), arguments)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-8, atol=1e-9)
    for mine, other in zip(*running, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["resnet_mini", "densenet121", "vgg16_bn_small", "conv1", "conv2"])
def test_products_of_whole_networks_are_torchs(name):
    objective = Objective(narrow(name))
    theta = theta_of(objective)[None].requires_grad_()
    torch.manual_seed(0)
    images = torch.randn(1, 2, 3, 32, 32, dtype=torch.float64)
    labels, v = torch.randint(0, 10, (1, 2)), torch.randn_like(theta)
    _, fast, _ = objective.gradients(theta, images, labels, differentiable=True)
    (slow,) = torch.autograd.grad(objective.losses(theta, images, labels)[0].sum(), theta, create_graph=True)
    torch.testing.assert_close(fast, slow, rtol=1e-8, atol=1e-9)
    products = [torch.autograd.grad(g, theta, grad_outputs=v)[0] for g in (fast, slow)]
    error = (products[0] - products[1]).norm() / products[1].norm()
    assert error < 1e-8


def test_the_mode_ends_with_its_block():
    assert not in_double_backward()

    def fail():
        with double_backward():
            assert in_double_backward()
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert not in_double_backward()
