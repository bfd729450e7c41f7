"""Several runs in lockstep: the networks' weights lie in one matrix, and a step moves all of them."""

from collections.abc import Sequence

import torch

from whysgd.study.spec import in_lockstep
from whysgd.training.dense import dense_gradients
from whysgd.training.device import allow_tf32
from whysgd.training.schedules import learning_rate
from whysgd.training.sgd import sgd_step
from whysgd.training.trainer import Trainer


class Stack:
    """Runs of plain mini-batch SGD that differ in their seeds alone, at the same step.

    A run's numbers do not depend on the others in the stack, but for rounding: torch multiplies the matrices of a batch
    one by one, and on a CPU gives each network the same bits in a batch of any size (`tests/test_stack.py`).

    Args:
        trainers: of these runs. Their states stay theirs; from now on their θ, momentum and norms are rows of the
            stack's.

    Raises:
        ValueError: runs that cannot be in lockstep, see `whysgd.study.spec.in_lockstep`.
    """

    def __init__(self, trainers: Sequence[Trainer]):
        first = trainers[0]
        if not in_lockstep([trainer.spec for trainer in trainers]) or first.ranks.size > 1:
            raise ValueError("only runs of plain mini-batch SGD that differ in their seeds can be stacked")
        if len({trainer.state.step for trainer in trainers}) > 1:
            raise ValueError("runs in lockstep must be at the same step")
        self.trainers, self.spec, self.objective = list(trainers), first.spec, first.objective
        self.theta, self.momentum, self.norms = (
            torch.stack([getattr(trainer.state, name) for trainer in trainers])
            for name in ("theta", "momentum", "norms")
        )  # fmt: skip
        for row, trainer in enumerate(trainers):
            trainer.engine, state = "eager", trainer.state
            state.theta, state.momentum, state.norms = self.theta[row], self.momentum[row], self.norms[row]
            # The same images serve all.
            trainer.feed, trainer.data = (first.feed, first.data) if self._same_blocks else (trainer.feed, first.data)
        self.gradients = torch.empty_like(self.theta)

    @property
    def _same_blocks(self) -> bool:
        """Whether all runs see the same blocks: nothing is drawn."""
        return not self.spec.shuffle and self.spec.augment is None

    def step(self) -> list[dict]:
        """Make one step of every run; returns what `Trainer.step` does of each."""
        spec, first = self.spec, self.trainers[0]
        state = first.state
        allow_tf32(first.precision == "tf32")
        epoch, block = divmod(state.step, first.steps_per_epoch)
        lr = learning_rate(spec.schedule, spec.lr, epoch if spec.schedule.unit == "epoch" else state.step, first.total)
        images, labels = self._block(epoch, block)
        losses = self._gradients(first.normalize(images), labels)
        norms = self.gradients.norm(dim=1)
        self.norms[:, state.step] = norms
        line = first.has_line(state.step + 1)
        before = self.theta.clone() if line else None
        full = losses + 0.5 * spec.weight_decay * self.theta.square().sum(1) if line else losses
        sgd_step(self.theta, self.momentum, self.gradients, lr, spec.momentum, spec.nesterov, spec.weight_decay)
        lengths = (self.theta - before).norm(dim=1) if line else losses
        steps = []
        for row, trainer in enumerate(self.trainers):
            trainer.state.step += 1
            trainer.state.blocks += 1
            steps.append(
                {"epoch": epoch + 1, "lr": lr, "step_loss": losses[row], "full_loss": full[row],
                 "penalty": 0.0, "gradient_norm": norms[row], "clipped": False,
                 "step_length": lengths[row] if line else None, "micro_batch_norm2": None}
            )  # fmt: skip
        return steps

    def _block(self, epoch: int, block: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Images (k, n, C, H, W) uint8 and labels (k, n) of a step's block, with k = 1 if all runs share it."""
        trainers = self.trainers[:1] if self._same_blocks else self.trainers
        parts = [next(trainer.feed.stacks(epoch, block, block + 1)) for trainer in trainers]
        return parts[0] if len(parts) == 1 else tuple(torch.cat(part) for part in zip(*parts, strict=True))

    def _gradients(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Losses (k,) of all runs; their gradients are left in `self.gradients`."""
        if self.objective.dtype is None:
            return dense_gradients(self.objective, self.theta, images, labels, self.gradients)
        k = len(self.theta)
        losses, gradients, _ = self.objective.gradients(
            self.theta, images.expand(k, *images.shape[1:]), labels.expand(k, -1)
        )
        self.gradients.copy_(gradients)
        return losses
