"""The gradient of one step: a mean over blocks of [ g_B + penalty_B ]."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

from whysgd.spec import Penalty
from whysgd.training.objective import Objective
from whysgd.training.penalties import PENALTIES, Block, needs_graph, needs_pre_gradient
from whysgd.training.ranks import Ranks

ALONE = Ranks()
# Images (k, n, C, H, W) and labels (k, n) of k blocks of n images.
Stack = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class StepGradient:
    """What one pass over the blocks of a step yields.

    Attributes:
        gradient: ḡ (P,), penalty included.
        loss: mean over blocks of L_B, a scalar, in training mode.
        penalty: mean over blocks of λR_B, a scalar; 0 without a penalty.
        running: batch norm's running statistics (Q,) after these blocks.
    """

    gradient: torch.Tensor
    loss: torch.Tensor
    penalty: torch.Tensor
    running: torch.Tensor


def block_weights(blocks: int, averaging: str, dtype=torch.float32, device="cpu") -> torch.Tensor:
    """The weight of each of N blocks in ḡ.

    "mean": 1/N, also for a block with fewer images. "historical": what avg += (g − avg)/N with constant
    N gives, weight (1/N)(1 − 1/N)^(N−1−i) for block i, in all 1 − (1 − 1/N)^N ≈ 0.633 (geiping2022's
    code from its release until 2023, and so the published numbers).

    Returns:
        weights (N,), in the order of the blocks.

    Raises:
        ValueError: another averaging.
    """
    if averaging == "mean":
        return torch.full((blocks,), 1 / blocks, dtype=dtype, device=device)
    if averaging != "historical":
        raise ValueError(f"averaging = {averaging!r}: allowed: mean, historical")
    power = torch.arange(blocks - 1, -1, -1, dtype=dtype, device=device)
    return (1 - 1 / blocks) ** power / blocks


def step_gradient(
    objective: Objective,
    theta: torch.Tensor,
    running: torch.Tensor,
    stacks: Callable[[], Iterable[Stack]],
    blocks: int,
    lr: float,
    penalty: Penalty | None = None,
    averaging: str = "mean",
    first: int = 0,
    ranks: Ranks = ALONE,
) -> StepGradient:
    """Accumulate over the blocks of one step.

    Args:
        objective: the losses of blocks.
        theta, running: parameters (P,) and running statistics (Q,); neither is changed.
        stacks: called for each pass over the blocks, yields them in order, in stacks of equal size;
            stacks of one block are the plain loop.
        blocks: how many there are in all, on every rank.
        lr: the current learning rate η, which scales the penalty.
        penalty, averaging: as in `RunSpec`.
        first: number of the first block that `stacks` yields.
        ranks: who have the other blocks; the result is the sum over all of them.

    Returns:
        the gradient; the penalty's passes leave the running statistics alone.

    Source: the loop that all four papers share; averaging as in geiping2022's released code.
    """
    weights = block_weights(blocks, averaging, theta.dtype, theta.device)
    kept = objective.statistic_weights(blocks, theta)
    pre_gradient = None
    if penalty is not None and needs_pre_gradient(penalty):
        pre_gradient = step_gradient(
            objective, theta, running, stacks, blocks, lr, None, averaging, first, ranks
        ).gradient  # fmt: skip
    gradient, statistic = torch.zeros_like(theta), torch.zeros_like(running)
    loss, penalty_value = theta.new_zeros(()), theta.new_zeros(())
    for images, labels in stacks():
        here = slice(first, first + len(labels))
        if penalty is None:
            losses, part, statistics = _plain(objective, theta, images, labels, weights[here])
        else:
            losses, part, statistics, values = _regularized(
                objective, theta, images, labels, weights[here], lr, penalty, pre_gradient
            )
            penalty_value += values.sum() / blocks
        gradient += part
        loss += losses.sum() / blocks
        statistic += kept[here] @ statistics
        first += len(labels)
    gradient, statistic, loss, penalty_value = ranks.sum(gradient, statistic, loss, penalty_value)
    return StepGradient(gradient, loss, penalty_value, (1 - objective.momentum) ** blocks * running + statistic)


def _plain(objective, theta, images, labels, weight):
    """Σ_B w_B g_B for one stack, from a single backward pass."""
    theta = theta.detach().requires_grad_()
    k = len(labels)
    losses, statistics = objective.losses(theta if k == 1 else theta.expand(k, -1), images, labels)
    (gradient,) = torch.autograd.grad((losses * weight).sum(), theta)
    return losses.detach(), gradient, statistics


def _regularized(objective, theta, images, labels, weight, lr, penalty, pre_gradient):
    """Σ_B w_B (g_B + penalty_B) for one stack, and the penalty's value for each block."""
    k = len(labels)
    theta = theta.detach()
    copies = theta if k == 1 else theta.expand(k, -1)
    graph = needs_graph(penalty)
    if graph:
        copies = copies.clone().requires_grad_()
    losses, g, statistics = objective.gradients(copies, images, labels, differentiable=graph)
    block = Block(copies, g, lambda at: objective.gradients(at, images, labels)[1], lr, pre_gradient)
    added, values = PENALTIES[penalty.name](block, penalty)
    part = weight @ g.detach().view(k, -1) + weight @ added.detach().view(k, -1)
    return losses, part, statistics, values
