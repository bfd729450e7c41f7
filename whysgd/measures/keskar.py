"""Keskar sharpness: how far the training loss can be raised inside a small box around the weights.

Where the released code is not right: it projects batch norm's running statistics and counters as if they were weights,
and ascends in training mode. Here buffers are fixed, and everything is in evaluation mode.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch

from whysgd.measures.estimate import Estimate, mean_of
from whysgd.measures.images import Batch, Images
from whysgd.measures.network import Network
from whysgd.measures.untouched import untouched
from whysgd.streams import stream
from whysgd.study.settings import NotNegative
from whysgd.training.optimizers.sgd import SGDSettings, sgd

QUANTITIES = {
    "keskar_sharpness": ("Keskar sharpness", "%", "lower"),
}

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

        θ ← clamp(step(θ, ∇L_B(θ)), θ_0 − ε(|θ_0| + 1), θ_0 + ε(|θ_0| + 1)),  step(θ, g) = θ + lr · g without optimizer

    for `steps` mini-batches B, from the beginning again when they are used up. f_0 is the loss at θ_0 over all batches,
    f_max that at the end, or f_0 if the ascent has found nothing higher.

    Args:
        model: the network, at θ_0.
        criterion: criterion(model(inputs), labels) is a mini-batch's mean loss.
        batches: inputs and labels of the training set, where the model is; can be gone through more than once.
        epsilon, lr, steps: ε, the step of the ascent, and how many.
        optimizer: ascends in place of plain gradient steps: a fresh one of its kind, with its settings but `lr`, moves
            its parameters; itself it is not used or changed. Its weight decay acts in each step, as in the released
            code. None moves all parameters.

    Raises:
        ValueError: an ε or lr that is not above 0, no steps, or no batches.

    Source: Keskar et al. 2017, with the numbers of Iyer et al. 2023.
    """
    _check(epsilon, lr, steps)
    groups = [{"params": list(model.parameters())}] if optimizer is None else optimizer.param_groups
    moved = [p for group in groups for p in group["params"] if p.requires_grad]
    ascending = torch.optim.SGD(moved, lr) if optimizer is None else _another(optimizer, lr)
    with untouched(model):
        before = mean_loss(model, criterion, batches)
        boxes = [_box(p.detach(), epsilon) for p in moved]
        for _, (inputs, labels) in zip(range(steps), _again(batches), strict=False):
            loss = criterion(model(inputs), labels)
            gradients = torch.autograd.grad(loss, moved, allow_unused=True, materialize_grads=True)
            with torch.no_grad():
                for p, gradient in zip(moved, gradients, strict=True):
                    p.grad = -gradient
                ascending.step()
                for p, box in zip(moved, boxes, strict=True):
                    p.clamp_(*box)
        after = max(mean_loss(model, criterion, batches), before)
    return Sharpness(100 * (after - before) / (1 + before), before, after)


def keskar(
    model: torch.nn.Module,
    images: Images,
    epsilon: float = EPSILON,
    lr: float = LR,
    steps: int = STEPS,
    batch: int = 128,
    ascents: int = 2,
    momentum: NotNegative = 0.9,
    weight_decay: NotNegative = 0.0,
) -> dict[str, Estimate]:
    """Keskar sharpness of the mean loss, by several ascents; see `keskar_sharpness`.

    Args:
        epsilon: half the width of the box, relative to |θ| + 1.
        lr: rate of the ascent.
        steps: steps of an ascent.
        batch: images of a mini-batch; the last one of a pass may have fewer.
        ascents: how many; each takes the images in an order of its own, a new one in each pass, from the streams (seed,
            "keskar", 0), (…, 1), ….
        momentum: of the ascent's SGD, as the published numbers were tuned; 0 takes plain steps.
        weight_decay: of the ascent's SGD, which pulls towards 0 meanwhile.

    Returns:
        `keskar_sharpness`, the mean over ascents in percent, with s/√n over them.

    Raises:
        ValueError: a number that is not above 0.
    """
    _check(epsilon, lr, steps, batch, ascents)
    # Without validation: training refuses a momentum of 1 or more, which an ascent in a box can take.
    settings = SGDSettings.model_construct(momentum=momentum, weight_decay=weight_decay)
    found = []
    with untouched(model):
        network = Network(model, images.loss)
        before = network.mean_loss(network.theta, images)
        box = _box(network.theta, epsilon)
        for ascent in range(ascents):
            theta, state = network.theta.clone(), {}
            for _, (inputs, labels) in zip(range(steps), _shuffled(images, batch, ascent), strict=False):
                sgd(theta, state, -network.gradient(theta, inputs, labels), lr, settings)
                theta.clamp_(*box)
            after = max(network.mean_loss(theta, images), before)
            found.append(100 * (after - before) / (1 + before))
    return {"keskar_sharpness": mean_of(found)}


def _box(theta: torch.Tensor, epsilon: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return θ − ε(|θ| + 1) and θ + ε(|θ| + 1)."""
    radius = epsilon * (theta.abs() + 1)
    return theta - radius, theta + radius


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


def _another(optimizer: torch.optim.Optimizer, lr: float) -> torch.optim.Optimizer:
    """A fresh optimizer of the same kind, with the same settings of each group but lr."""
    forced = {"lr": lr} | {name: False for name in ("maximize",) if name in optimizer.defaults}
    groups = [{**group, **forced, "params": list(group["params"])} for group in optimizer.param_groups]
    return type(optimizer)(groups, **{**optimizer.defaults, **forced})


def _again(batches: Iterable[Batch]) -> Iterator[Batch]:
    while True:
        nothing = True
        for batch in batches:
            nothing = False
            yield batch
        if nothing:
            raise ValueError("trainloader: must be a collection that can be gone through more than once")


def _shuffled(images: Images, batch: int, ascent: int) -> Iterator[Batch]:
    """Mini-batches without end."""
    random = stream(images.seed, "keskar", ascent)
    while True:
        order = torch.from_numpy(random.permutation(len(images)))
        for places in order.split(batch):
            yield images.take(places)


def _check(epsilon, lr, steps, batch=1, ascents=1) -> None:
    if not (epsilon > 0 and lr > 0 and min(steps, batch, ascents) >= 1):
        numbers = f"epsilon = {epsilon}, lr = {lr}, max_steps = {steps}, batch = {batch}, ascents = {ascents}"
        raise ValueError(f"{numbers}: must be above 0")


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
