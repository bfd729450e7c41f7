"""What is computed on single micro-batches that are drawn at random: a sampled penalty, a graft's norm, a probe.

Each function takes a `whysgd.training.loop.Trainer` between two steps and changes nothing of it.
"""

import numpy as np
import torch

from whysgd.models.layers import Dropout, dropout_keys
from whysgd.streams import stream
from whysgd.study.length import epoch_images
from whysgd.training.engine import Engine, Step


def sampled_penalty(trainer, epoch: int, first: int, end: int, lr: float) -> list[torch.Tensor]:
    """Return gradient (S, P) and value (S,) of the penalty of one micro-batch of each seed.

    Its images are drawn from those of the micro-batches first … end − 1, which make a step.
    """
    theta, seeds = trainer.batch.theta, trainer.loader.seeds
    added, value = torch.zeros_like(theta), theta.new_zeros(len(theta))
    if trainer.ranks.leads:
        places = places_of(trainer, first, end)
        count = min(trainer.sampled, len(places))
        random = (stream(seed, "sample", trainer.batch.step) for seed in seeds)
        group = trainer.loader.take(epoch, [one.choice(places, count, replace=False) for one in random])
        draws = penalty_draws(trainer, 1, count) if trainer.draw else None
        keys = dropout_keys_of(trainer, 1, "sample-dropout")
        sums = sums_of_one(trainer.sampler, Step(theta, lr=lr, draws=draws, keys=keys), group)
        added, value = sums.gradient, sums.penalty
    return trainer.ranks.sum(added, value)


def micro_batch_norm(trainer, epoch: int, first: int, end: int) -> torch.Tensor:
    """Return the gradient norm (S,) of one of the micro-batches first … end − 1 of each seed, without penalty."""
    theta, seeds = trainer.batch.theta, trainer.loader.seeds
    norms, keys = theta.new_zeros(len(theta)), dropout_keys_of(trainer, end - first)
    for row, seed in enumerate(seeds if trainer.ranks.leads else ()):
        index = int(stream(seed, "graft", trainer.batch.step).integers(end - first))
        # A last micro-batch may be smaller, so each seed has a pass of its own.
        group = trainer.loader.take(epoch, [places_of(trainer, first + index, first + index + 1)] * len(seeds))
        own = slice(row, row + 1)
        step = Step(theta[own], keys=None if keys is None else keys[own, index : index + 1])
        norms[row] = sums_of_one(trainer.plain, step, [part[own] for part in group]).gradient.norm()
    return trainer.ranks.sum(norms)[0]


@torch.no_grad()
def probed_norms2(trainer) -> torch.Tensor:
    """Return the average micro-batch gradient norm mean_B ‖∇L_B(θ)‖² of each seed, (S,).

    B are micro-batches drawn for the probe alone. In training mode, augmented, with the penalty left out; all runs of a
    seed that are probed the same way are measured on the same images at the same step.

    Source: Novack et al. 2023, figures 1 and 2.
    """
    step, seeds, probe = trainer.batch.step, trainer.loader.seeds, trainer.spec.probe
    count = probe.micro_batch * probe.micro_batches
    chosen = [stream(seed, "norm-probe", step).choice(trainer.count, count, replace=False) for seed in seeds]
    images, labels = trainer.loader.fresh(chosen, "watch-augment", step)
    images, labels = (part.unflatten(1, (-1, probe.micro_batch)) for part in (images, labels))
    most = trainer.most_for(probe.micro_batch)
    totals = trainer.batch.theta.new_zeros(len(seeds))
    keys = dropout_keys_of(trainer, probe.micro_batches, "watch-dropout")
    for row, theta in enumerate(trainer.batch.theta):
        for start in range(0, probe.micro_batches, most):
            inputs, own = trainer.normalize(images[row, start : start + most]), labels[row, start : start + most]
            with torch.enable_grad(), dropout_keys(None if keys is None else keys[row, start : start + most]):
                gradients = trainer.objective.gradients(theta.expand(len(own), -1), inputs, own)[1]
            totals[row] += gradients.square().sum()
    return totals / probe.micro_batches


def penalty_draws(trainer, count: int, images: int) -> torch.Tensor:
    """Return what the penalty draws in a step for so many micro-batches of so many images, (S, count, …)."""
    name, step, like = trainer.spec.penalty.name, trainer.batch.step, trainer.batch.theta
    images *= trainer.loader.repeats
    drawn = [trainer.draw(stream(seed, name, step), count, images, trainer.classes) for seed in trainer.loader.seeds]
    draws = torch.from_numpy(np.stack(drawn)).to(like.dtype)
    return draws.pin_memory().to(like.device, non_blocking=True) if like.is_cuda else draws


def dropout_keys_of(trainer, count: int, purpose: str = "dropout") -> torch.Tensor | None:
    """Return the keys (S, count) of so many micro-batches of a step; None for a network without dropout."""
    if not any(isinstance(module, Dropout) for module in trainer.objective.model.modules()):
        return None
    random = (stream(seed, purpose, trainer.batch.step) for seed in trainer.loader.seeds)
    return torch.from_numpy(np.stack([one.integers(1 << 63, size=count) for one in random])).to(trainer.device)


def places_of(trainer, first: int, end: int) -> np.ndarray:
    """Return where the images of the micro-batches first … end − 1 stand in an epoch's order."""
    n = trainer.spec.micro_batch
    return np.arange(first * n, min(end * n, epoch_images(trainer.phase.spec, trainer.count)))


def sums_of_one(engine: Engine, step: Step, group):
    """Return the sums over one micro-batch of each seed, images (S, n, …) and labels (S, n)."""
    return engine.sums(step, [tuple(part.unsqueeze(1) for part in group)])
