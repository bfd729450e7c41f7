"""Single penalties against dense Hessians and distributions; `test_engine.py` has them in a step."""

import pytest
import torch
from networks import dense, random_batches, smooth_objective

from whysgd.streams import stream
from whysgd.training.micro_batches import MicroBatches
from whysgd.training.objective import Objective
from whysgd.training.penalties import fisher_trace, unit_jacobian
from whysgd.training.penalties.fisher_trace import predicted_labels
from whysgd.training.penalties.gradient_norm import (
    PRODUCTS,
    central_difference,
    forward_difference,
)

LR = 0.8


@pytest.fixture
def problem():
    objective, theta = smooth_objective()
    [(x, y)] = random_batches([5])

    def micro_batches(count=1):
        images, labels = x.expand(count, *x.shape), y.expand(count, -1)
        return MicroBatches(objective, Objective.gradients, theta.expand(count, -1), images, labels, LR)

    return micro_batches, theta, *dense(objective, theta, x, y)


def test_a_micro_batch_gives_the_same_gradient_whatever_is_asked_for_first(problem):
    micro_batches, _, g, _ = problem
    for first in ("gradient", "logits", "losses", "attached_gradient"):
        one = micro_batches()
        getattr(one, first)
        torch.testing.assert_close(one.gradient[0], g, rtol=1e-10, atol=1e-12)
        assert one.losses_now.shape == (1,)
        assert not one.gradient.requires_grad
        assert not one.losses_now.requires_grad


@pytest.mark.parametrize(("product", "order"), [(forward_difference, 1), (central_difference, 2)])
def test_differences_converge_to_the_dense_product_on_a_smooth_network_at_their_order(problem, product, order):
    micro_batches, _, g, hessian = problem
    v, truth = 0.5 * g, hessian @ (0.5 * g)
    found = [product(micro_batches(), v[None], eps)[0] for eps in (1e-2, 1e-3)]
    errors = [((one - truth).norm() / truth.norm()).item() for one in found]
    assert errors[0] < (0.05 if order == 1 else 0.005)
    assert errors[1] == pytest.approx(errors[0] * 0.1**order, rel=0.1)


def test_the_forward_difference_is_the_published_formula_and_leaves_theta(problem):
    micro_batches, theta, g, _ = problem
    before, one, v = theta.clone(), micro_batches(), 0.5 * g
    epsilon = 1e-2 / v.norm()
    expected = (one.gradient_at((theta + epsilon * v)[None]) - one.gradient_at(theta[None])) / epsilon
    torch.testing.assert_close(forward_difference(one, v[None], 1e-2), expected, rtol=1e-10, atol=1e-12)
    assert torch.equal(theta, before)


@pytest.mark.parametrize("name", ["forward-differences", "central-differences"])
def test_each_micro_batch_has_a_step_of_its_own_and_a_zero_direction_gives_zero(problem, name):
    micro_batches, _, g, _ = problem
    v = torch.stack([0.5 * g, 100 * g, torch.zeros_like(g)])
    together = PRODUCTS[name](micro_batches(3), v, 1e-2)
    for i in range(3):
        expected = PRODUCTS[name](micro_batches(), v[i : i + 1], 1e-2)[0]
        torch.testing.assert_close(together[i], expected, rtol=1e-10, atol=1e-12)
    assert (together[2] == 0).all()


def test_labels_follow_the_predictive_distribution():
    logits = torch.tensor([[[2.0, 0.0, -1.0], [0.0, 0.0, 3.0]]], dtype=torch.float64)
    draws = 40_000
    uniform = torch.from_numpy(fisher_trace.draw(stream(0, "test"), 1, 2 * draws, 3))
    labels = predicted_labels(logits.repeat(1, draws, 1), uniform).view(draws, 2)
    for image in range(2):
        expected = logits[0, image].softmax(-1)
        found = torch.bincount(labels[:, image], minlength=3) / draws
        # Five standard errors.
        assert (found - expected).abs().max() < 5 * 0.5 / draws**0.5
    # A uniform number that rounding has made 1, or sums that rounding has left below it.
    assert predicted_labels(logits, torch.ones(1, 2, dtype=torch.float64)).max() == 2


def test_unit_vectors_point_everywhere():
    many = torch.from_numpy(unit_jacobian.draw(stream(0, "test"), 20_000, 1, 3))
    torch.testing.assert_close(many.norm(dim=1), torch.ones(20_000).double())
    assert many.mean(0).abs().max() < 0.02
    torch.testing.assert_close(many.T @ many / len(many), torch.eye(3).double() / 3, rtol=0, atol=0.02)
