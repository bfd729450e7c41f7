"""The gradient of one step: a mean over blocks of [ g_B + penalty_B ]."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

import torch

from whysgd.models.twice import twice_differentiable
from whysgd.study.registry import find
from whysgd.study.settings import MethodSettings
from whysgd.training.blocks import Block
from whysgd.training.objective import Objective, block_losses
from whysgd.training.penalties import needs_graph, needs_logits, needs_pre_gradient
from whysgd.training.ranks import Ranks

ALONE = Ranks()
# Images (k, n, C, H, W), normalized or what `StackSums.normalize` takes, and labels (k, n) of k blocks of n images.
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


@lru_cache(maxsize=8)
def block_weights(blocks: int, averaging: str, dtype=torch.float32, device="cpu") -> torch.Tensor:
    """The weight of each of N blocks in ḡ.

    "mean": 1/N, also for a block with fewer images. "historical": what avg += (g − avg)/N with constant
    N gives, weight (1/N)(1 − 1/N)^(N−1−i) for block i, in all 1 − (1 − 1/N)^N ≈ 0.633 (geiping2022's
    code from its release until 2023, and so the published numbers).

    Returns:
        weights (N,), in the order of the blocks; the same tensor for the same arguments.

    Raises:
        ValueError: another averaging.
    """
    if averaging == "mean":
        return torch.full((blocks,), 1 / blocks, dtype=dtype, device=device)
    if averaging != "historical":
        raise ValueError(f"averaging = {averaging!r}: allowed: mean, historical")
    power = torch.arange(blocks - 1, -1, -1, dtype=dtype, device=device)
    return (1 - 1 / blocks) ** power / blocks


class StackSums:
    """Sums over the blocks of a step, stack by stack: the readable engine; see `whysgd.training.graphs` for a GPU's.

    Args:
        objective: the losses of blocks.
        penalty: as in `RunSpec`.
        copies: for several blocks without a penalty, one copy of the weights for each (fast for small networks on
            a CPU); otherwise they share them. A penalty always takes copies: it shifts them block by block.
        normalize: from images as they are stored to what the network takes.
        penalty_alone: leave out the blocks' own gradients.
    """

    def __init__(
        self,
        objective: Objective,
        penalty: MethodSettings | None = None,
        copies: bool = True,
        normalize=None,
        penalty_alone: bool = False,
    ):
        self.objective, self.penalty, self.copies, self.penalty_alone = objective, penalty, copies, penalty_alone
        self.normalize = normalize or (lambda images: images)

    def begin(self, theta: torch.Tensor, statistics: int, lr: float, pre_gradient: torch.Tensor | None = None) -> None:
        """Start a step at θ (P,) with sums of zero; `statistics` is Q."""
        self.theta, self.lr, self.pre_gradient = theta.detach(), lr, pre_gradient
        self.totals = (torch.zeros_like(theta), theta.new_zeros(statistics), theta.new_zeros(()), theta.new_zeros(()))

    def add(self, images, labels, weight, kept, noise=None) -> None:
        """Add one stack: k blocks with their weights (k,) in the gradient and in the running statistics.

        `noise` has a row for each block, if the penalty draws; see `whysgd.training.micro_batch.penalty_noise`.
        """
        parts = self.compute(self.theta, images, labels, weight, kept, self.lr, self.pre_gradient, noise)
        for total, part in zip(self.totals, parts, strict=True):
            total += part

    def compute(
        self, theta, images, labels, weight, kept, lr, pre_gradient=None, noise=None
    ) -> tuple[torch.Tensor, ...]:
        """What one stack adds: Σ w_B (g_B + penalty_B), Σ kept_B s_B, Σ L_B, Σ λR_B. No side effects."""
        images = self.normalize(images)
        if self.penalty is None:
            losses, part, statistics = _plain(self.objective, theta, images, labels, weight, self.copies)
            values = losses.new_zeros(())
        else:
            regularized = _with_logits if needs_logits(self.penalty) else _regularized
            losses, g, statistics, added, values = regularized(
                self.objective, theta, images, labels, lr, self.penalty, pre_gradient, noise
            )
            k = len(labels)
            part = weight @ added.detach().view(k, -1)
            if not self.penalty_alone:
                part = weight @ g.detach().view(k, -1) + part
        return part, kept @ statistics, losses.sum(), values.sum()


def step_gradient(
    sums: StackSums,
    theta: torch.Tensor,
    running: torch.Tensor,
    stacks: Callable[[], Iterable[Stack]],
    blocks: int,
    lr: float,
    averaging: str = "mean",
    first: int = 0,
    ranks: Ranks = ALONE,
    plain: StackSums | None = None,
    noise: torch.Tensor | None = None,
) -> StepGradient:
    """Accumulate over the blocks of one step.

    Args:
        sums: computes stacks of blocks, with the run's penalty.
        theta, running: parameters (P,) and running statistics (Q,); neither is changed.
        stacks: called for each pass over the blocks, yields them in order, in stacks of equal size;
            stacks of one block are the plain loop.
        blocks: how many there are in all, on every rank.
        lr: the current learning rate η, which scales the penalty.
        averaging: as in `RunSpec`.
        first: number of the first block that `stacks` yields.
        ranks: who have the other blocks; the result is the sum over all of them.
        plain: computes stacks without a penalty, for one that needs the full gradient beforehand.
        noise: a row for each of the step's blocks, if the penalty draws.

    Returns:
        the gradient; the penalty's passes leave the running statistics alone.

    Source: the loop that all four papers share; averaging as in geiping2022's released code.
    """
    weights = block_weights(blocks, averaging, theta.dtype, theta.device)
    kept = sums.objective.statistic_weights(blocks, theta)
    pre_gradient = None
    if sums.penalty is not None and needs_pre_gradient(sums.penalty):
        plain = plain or StackSums(sums.objective, None, sums.copies, sums.normalize)
        pre_gradient = step_gradient(
            plain, theta, running, stacks, blocks, lr, averaging, first, ranks
        ).gradient.clone()  # fmt: skip
    sums.begin(theta, len(running), lr, pre_gradient)
    for images, labels in stacks():
        here = slice(first, first + len(labels))
        sums.add(images, labels, weights[here], kept[here], None if noise is None else noise[here])
        first += len(labels)
    gradient, statistic, loss, penalty_value = ranks.sum(*sums.totals)
    running = (1 - sums.objective.momentum) ** blocks * running + statistic
    return StepGradient(gradient, loss / blocks, penalty_value / blocks, running)


def _plain(objective, theta, images, labels, weight, copies):
    """Σ_B w_B g_B for one stack, from a single backward pass."""
    theta = theta.detach().requires_grad_()
    k = len(labels)
    losses, statistics = objective.losses(theta.expand(k, -1) if copies and k > 1 else theta, images, labels)
    (gradient,) = torch.autograd.grad((losses * weight).sum(), theta)
    return losses.detach(), gradient, statistics


def _regularized(objective, theta, images, labels, lr, penalty, pre_gradient, noise):
    """Losses, g_B, statistics, penalty_B and its value for each block of one stack; geiping2022's penalty."""
    theta = _copies(theta, len(labels))
    graph = needs_graph(penalty)
    if graph:
        theta = theta.clone().requires_grad_()
    losses, g, statistics = objective.gradients(theta, images, labels, differentiable=graph)
    block = Block(theta, g, lambda at: objective.gradients(at, images, labels)[1], lr, pre_gradient)
    return losses, g, statistics, *find("penalty", penalty.name)(block, penalty)


def _with_logits(objective, theta, images, labels, lr, penalty, pre_gradient, noise):
    """The same for penalties on the gradient of a function of the logits: one forward pass serves all."""
    theta = _copies(theta, len(labels)).clone().requires_grad_()
    with twice_differentiable():
        logits, statistics = objective.forward(theta, images)
    losses = block_losses(logits, labels, objective.loss)
    (g,) = torch.autograd.grad(losses.sum(), theta, create_graph=needs_graph(penalty), retain_graph=True)
    block = Block(theta, g, lr=lr, logits=logits, noise=noise)
    return losses.detach(), g, statistics, *find("penalty", penalty.name)(block, penalty)


def _copies(theta: torch.Tensor, k: int) -> torch.Tensor:
    """θ (P,) for one block, a view (k, P) for several."""
    theta = theta.detach()
    return theta if k == 1 else theta.expand(k, -1)
