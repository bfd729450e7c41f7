import pytest
import torch
from networks import dense, random_blocks, smooth_objective

from whysgd.study.registry import make
from whysgd.training.blocks import Block
from whysgd.training.penalties.gradient_norm import gradient_norm
from whysgd.training.products import (
    PRODUCTS,
    central_difference,
    exact_product,
    forward_difference,
)


@pytest.fixture
def problem():
    objective, theta = smooth_objective()
    (x, y), *_ = random_blocks([5])
    g, hessian = dense(objective, theta, x, y)

    def gradient(at, differentiable=False):
        return objective.gradients(at, x[None], y[None], differentiable)[1]

    return theta, gradient, g, hessian


def test_the_exact_product_is_the_dense_hessians(problem):
    theta, gradient, _, hessian = problem
    v = torch.randn_like(theta)
    at = theta.clone().requires_grad_()
    product = exact_product(gradient, at, gradient(at, True), v, 1e-2)
    torch.testing.assert_close(product, hessian @ v, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(("product", "order"), [(forward_difference, 1), (central_difference, 2)])
def test_differences_converge_to_it_on_a_smooth_network_at_their_order(problem, product, order):
    theta, gradient, g, hessian = problem
    v, truth = 0.5 * g, hessian @ (0.5 * g)
    errors = [((product(gradient, theta, g, v, eps) - truth).norm() / truth.norm()).item() for eps in (1e-2, 1e-3)]
    assert errors[0] < (0.05 if order == 1 else 0.005)
    assert errors[1] == pytest.approx(errors[0] * 0.1**order, rel=0.1)


def test_the_forward_difference_is_the_published_formula(problem):
    theta, gradient, g, _ = problem
    v = 0.5 * g
    epsilon = 1e-2 / v.norm()
    expected = (gradient(theta + epsilon * v) - gradient(theta)) / epsilon
    torch.testing.assert_close(forward_difference(gradient, theta, g, v, 1e-2), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["forward-differences", "central-differences"])
def test_each_stacked_block_has_a_step_of_its_own_and_a_zero_direction_gives_zero(problem, name):
    theta, gradient, g, _ = problem
    v = torch.stack([0.5 * g, 100 * g, torch.zeros_like(g)])

    def each(at):
        return torch.stack([gradient(row) for row in at])

    stacked = PRODUCTS[name](each, theta.expand(3, -1), g.expand(3, -1), v, 1e-2)
    for i in range(3):
        expected = PRODUCTS[name](gradient, theta, g, v[i], 1e-2)
        torch.testing.assert_close(stacked[i], expected, rtol=1e-10, atol=1e-12)
    assert (stacked[2] == 0).all()


def test_theta_is_not_touched(problem):
    theta, gradient, g, _ = problem
    before = theta.clone()
    for product in (forward_difference, central_difference):
        product(gradient, theta, g, g, 1e-2)
    assert torch.equal(theta, before)


@pytest.mark.parametrize("acc", [0.0, 0.3])
def test_the_regularizer_is_the_formula_of_the_released_code(problem, acc):
    theta, gradient, g, hessian = problem
    settings = make("penalty", "gradient_norm", block_strength=0.5, acc_strength=acc, variant="exact")
    at, pre = theta.clone().requires_grad_(), torch.randn_like(theta)
    block = Block(at, gradient(at, True), gradient, 0.8, pre if acc else None)
    added, value = gradient_norm(block, settings)
    torch.testing.assert_close(added, 0.2 * hessian @ (0.5 * g + acc * pre), rtol=1e-9, atol=1e-11)
    assert value.item() == pytest.approx(0.2 * 0.5 * (g @ g).item())
