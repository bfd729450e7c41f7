import pytest
import torch
from networks import as_stacks, dense, random_blocks, smooth_objective

from whysgd.study.registry import make
from whysgd.training.gradients import StackSums, block_weights, step_gradient

# Uneven on purpose: stacks of two, a single block, and a smaller last one.
SIZES = [4, 4, 4, 6, 6, 2]
LR = 0.7


def measured(penalty, averaging="mean", most=2, copies=True):
    objective, theta = smooth_objective()
    blocks = random_blocks(SIZES)
    running = torch.rand(sum(objective.buffers.sizes), dtype=torch.float64)
    sums = StackSums(objective, penalty, copies)
    result = step_gradient(sums, theta, running, lambda: as_stacks(blocks, most), len(blocks), LR, averaging)
    return objective, theta, blocks, running, result


def truth(objective, theta, blocks, penalty, averaging="mean"):
    """Block by block with dense Hessians; the average in the form of the released code."""
    n = len(blocks)
    parts = [dense(objective, theta, x, y) for x, y in blocks]

    def accumulate(gradients):
        total = torch.zeros_like(theta)
        for i, g in enumerate(gradients):
            total = total + (g - total) / (i + 1 if averaging == "mean" else n)
        return total

    if penalty is None:
        return accumulate(g for g, _ in parts)
    pre = accumulate(g for g, _ in parts)
    regularized = []
    for g, hessian in parts:
        v = penalty.block_strength * g + penalty.acc_strength * pre
        regularized.append(g + LR / 4 * hessian @ v)
    return accumulate(regularized)


@pytest.mark.parametrize("most", [1, 2, 3])
@pytest.mark.parametrize("averaging", ["mean", "historical"])
@pytest.mark.parametrize("strengths", [None, (0.5, 0.0), (0.5, 0.3), (0.0, 0.3)])
def test_a_step_over_uneven_blocks_is_the_dense_truth(most, averaging, strengths):
    penalty = strengths and make(
        "penalty", "gradient_norm", block_strength=strengths[0], acc_strength=strengths[1], variant="exact"
    )
    objective, theta, blocks, _, result = measured(penalty, averaging, most)
    expected = truth(objective, theta, blocks, penalty, averaging)
    torch.testing.assert_close(result.gradient, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("variant", ["forward-differences", "central-differences", "exact"])
@pytest.mark.parametrize("acc", [0.0, 0.4])
def test_stacks_of_any_size_give_the_plain_loops_result(variant, acc):
    penalty = make("penalty", "gradient_norm", block_strength=0.5, acc_strength=acc, variant=variant)
    *_, loop = measured(penalty, most=1)
    for most in (2, 3):
        *_, fast = measured(penalty, most=most)
        for name in ("gradient", "loss", "penalty", "running"):
            torch.testing.assert_close(getattr(fast, name), getattr(loop, name), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("averaging", ["mean", "historical"])
def test_blocks_that_share_their_weights_give_the_plain_loops_result(averaging):
    *_, loop = measured(None, averaging, most=1)
    for most in (2, 3):
        *_, fast = measured(None, averaging, most, copies=False)
        for name in ("gradient", "loss", "penalty", "running"):
            torch.testing.assert_close(getattr(fast, name), getattr(loop, name), rtol=1e-9, atol=1e-11)


def test_loss_and_penalty_are_means_over_blocks():
    objective, theta, blocks, _, result = measured(make("penalty", "gradient_norm"))
    losses, squares = [], []
    for x, y in blocks:
        loss, g, _ = objective.gradients(theta, x[None], y[None])
        losses.append(loss[0])
        squares.append(g.square().sum())
    torch.testing.assert_close(result.loss, torch.stack(losses).mean(), rtol=1e-12, atol=1e-12)
    # (η/4) · block_strength · mean ‖g_B‖²
    torch.testing.assert_close(result.penalty, LR / 4 * 0.5 * torch.stack(squares).mean(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("variant", ["forward-differences", "central-differences", "exact"])
@pytest.mark.parametrize("acc", [0.0, 0.4])
def test_the_penaltys_passes_leave_running_statistics_alone(variant, acc):
    *_, plain = measured(None)
    *_, regularized = measured(make("penalty", "gradient_norm", block_strength=0.5, acc_strength=acc, variant=variant))
    torch.testing.assert_close(regularized.running, plain.running, rtol=1e-12, atol=1e-12)


def test_theta_and_running_are_not_changed_in_place():
    objective, theta = smooth_objective()
    running = torch.ones(sum(objective.buffers.sizes), dtype=torch.float64)
    before = theta.clone(), running.clone()
    blocks = random_blocks(SIZES)
    sums = StackSums(objective, make("penalty", "gradient_norm"))
    step_gradient(sums, theta, running, lambda: as_stacks(blocks, 2), 6, LR)
    assert torch.equal(theta, before[0])
    assert torch.equal(running, before[1])


def test_historical_weights_sum_to_the_stated_share_and_grow():
    for n in (1, 2, 7, 390):
        weights = block_weights(n, "historical", torch.float64)
        assert weights.sum() == pytest.approx(1 - (1 - 1 / n) ** n)
        assert (weights.diff() > 0).all()
        assert block_weights(n, "mean", torch.float64).sum() == pytest.approx(1)
    assert block_weights(390, "historical", torch.float64).sum() == pytest.approx(0.633, abs=1e-3)
    with pytest.raises(ValueError, match="allowed: mean, historical"):
        block_weights(3, "median")
