"""Keskar sharpness: how far the training loss can be raised inside a small box around the weights.

Where the released code is not right: it projects batch norm's running statistics and counters as if they were weights,
and ascends in training mode. Here buffers are fixed, and everything is in evaluation mode. Measuring leaves the network
as it was: weights, buffers, mode, gradients and torch's random state.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

Batch = tuple[torch.Tensor, torch.Tensor]
EPSILON, LR, STEPS = 1e-4, 1e-3, 1000


@dataclass(frozen=True)
class Sharpness:
    """What was found.

    Attributes:
        sharpness: 100 · (f_max − f_0) / (1 + f_0), in percent.
        loss, raised_loss: f_0 and f_max, mean losses over the training set, in nats.
    """

    sharpness: float
    loss: float
    raised_loss: float


def keskar_sharpness(
    model: torch.nn.Module,
    criterion: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    batches: Iterable[Batch],
    epsilon: float = EPSILON,
    lr: float = LR,
    steps: int = STEPS,
    optimizer: torch.optim.Optimizer | None = None,
) -> Sharpness:
    """Maximize the loss in the box |θ − θ_0| ≤ ε(|θ_0| + 1), entry by entry, by projected gradient ascent.

        θ ← clamp(θ + lr · ∇L_B(θ), θ_0 − ε(|θ_0| + 1), θ_0 + ε(|θ_0| + 1))

    for `steps` mini-batches B, from the beginning again when they are used up. f_0 is the loss at θ_0 over all batches,
    f_max that at the end, or f_0 if the ascent has found nothing higher.

    Args:
        model: the network, at θ_0.
        criterion: criterion(model(inputs), labels) is a mini-batch's mean loss.
        batches: inputs and labels of the training set, where the model is; can be gone through more than once.
        epsilon, lr, steps: ε, the step of the ascent, and how many.
        optimizer: ascends in place of plain gradient steps: another one of its kind, with its settings but `lr` and no
            weight decay, moves its parameters; itself it is not used or changed. None moves all parameters.

    Raises:
        ValueError: an ε or lr that is not above 0, no steps, or no batches.

    Source: Keskar et al. 2017, with the numbers of Iyer et al. 2023.
    """
    if not (epsilon > 0 and lr > 0 and steps >= 1):
        raise ValueError(f"epsilon = {epsilon}, lr = {lr}, max_steps = {steps}: must be above 0")
    groups = [{"params": list(model.parameters())}] if optimizer is None else optimizer.param_groups
    moved = [p for group in groups for p in group["params"] if p.requires_grad]
    ascend = None if optimizer is None else _another(optimizer, moved, lr)
    start = [p.detach().clone() for p in moved]
    radius = [epsilon * (p.abs() + 1) for p in start]
    with _as_it_was(model, moved, start):
        before = mean_loss(model, criterion, batches)
        for _, (inputs, labels) in zip(range(steps), _again(batches), strict=False):
            with torch.enable_grad():
                loss = criterion(model(inputs), labels)
            gradients = torch.autograd.grad(loss, moved, allow_unused=True)
            with torch.no_grad():
                gradients = [torch.zeros_like(p) if g is None else g for p, g in zip(moved, gradients, strict=True)]
                for p, g in zip(moved, gradients, strict=True):
                    if ascend is None:
                        p.add_(g, alpha=lr)
                    else:
                        p.grad = -g
                if ascend is not None:
                    ascend.step()
                for p, center, r in zip(moved, start, radius, strict=True):
                    p.clamp_(center - r, center + r)
        after = max(mean_loss(model, criterion, batches), before)
    return Sharpness(100 * (after - before) / (1 + before), before, after)


@torch.no_grad()
def mean_loss(model: torch.nn.Module, criterion, batches: Iterable[Batch]) -> float:
    """The mean over all images of the mini-batches' mean losses."""
    total, count = 0.0, 0
    for inputs, labels in batches:
        total += criterion(model(inputs), labels).item() * len(labels)
        count += len(labels)
    if not count:
        raise ValueError("trainloader: has no batches")
    return total / count


def _another(optimizer: torch.optim.Optimizer, parameters: list, lr: float) -> torch.optim.Optimizer:
    """A fresh optimizer of the same kind and settings."""
    settings = {**optimizer.defaults, "lr": lr}
    if "weight_decay" in settings:
        settings["weight_decay"] = 0
    return type(optimizer)(parameters, **settings)


def _again(batches: Iterable[Batch]) -> Iterator[Batch]:
    while True:
        yield from batches


@contextmanager
def _as_it_was(model: torch.nn.Module, parameters: list, values: list):
    """In evaluation mode within, and afterwards as before."""
    modes = {module: module.training for module in model.modules()}
    gradients = [p.grad for p in parameters]
    model.eval()
    try:
        # A torch DataLoader draws from the global random state each time it is gone through.
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        for module, training in modes.items():
            module.training = training
        with torch.no_grad():
            for parameter, value, gradient in zip(parameters, values, gradients, strict=True):
                parameter.copy_(value)
                parameter.grad = gradient


class ComputeKeskarSharpness:
    """`keskar_sharpness` with the interface of the released code.

    Args:
        model_final_ckpt: the trained network.
        optimizer: SGD (published), Adam, …; see `keskar_sharpness`.
        criterion: as in `keskar_sharpness`.
        trainloader: yields inputs and labels; they are moved to where the network is.
        epsilon, lr, max_steps: as in `keskar_sharpness`.

    Example:
        >>> ComputeKeskarSharpness(model, optimizer, criterion, trainloader, 1e-4, 1e-3, 1000).compute_sharpness()

    Source: Iyer et al. 2023, released code.
    """

    def __init__(
        self,
        model_final_ckpt: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        criterion,
        trainloader,
        epsilon: float = EPSILON,
        lr: float = LR,
        max_steps: int = STEPS,
    ):
        self.model, self.optimizer = model_final_ckpt, optimizer
        self.criterion, self.trainloader = criterion, trainloader
        self.epsilon, self.lr, self.max_steps = epsilon, lr, max_steps

    def compute_sharpness(self) -> float:
        """The sharpness in percent."""
        device = next(self.model.parameters()).device
        loader = _Moved(self.trainloader, device)
        return keskar_sharpness(
            self.model, self.criterion, loader, self.epsilon, self.lr, self.max_steps, self.optimizer
        ).sharpness


class _Moved:
    """Batches on a device, each time they are gone through."""

    def __init__(self, batches, device):
        self.batches, self.device = batches, device

    def __iter__(self):
        for inputs, labels in self.batches:
            yield inputs.to(self.device), labels.to(self.device)
