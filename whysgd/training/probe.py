"""The probe of the micro-batch gradient norm, which a history may have beside the step."""

import torch

from whysgd.streams import stream


@torch.no_grad()
def micro_batch_norms2(trainer) -> torch.Tensor:
    """Return the average micro-batch gradient norm mean_B ‖∇L_B(θ)‖² of each running seed, (seeds,).

    B are micro-batches drawn for the probe alone. In training mode, augmented, with the penalty left out; all runs of a
    seed that are probed the same way are measured on the same images at the same step. Nothing of a run is changed.

    Args:
        trainer: a `whysgd.training.loop.Trainer`.

    Source: Novack et al. 2023, figures 1 and 2.
    """
    batch, probe = trainer.batch, trainer.spec.watch
    count = probe.micro_batch * probe.micro_batches
    chosen = [
        stream(seed, "watch", batch.step).choice(trainer.count, count, replace=False) for seed in trainer.loader.seeds
    ]
    images, labels = trainer.loader.fresh(chosen, "watch-augment", batch.step)
    images, labels = (part.unflatten(1, (-1, probe.micro_batch)) for part in (images, labels))
    most = trainer.most_for(probe.micro_batch)
    totals = batch.theta.new_zeros(len(batch.theta))
    for row, theta in enumerate(batch.theta):
        for start in range(0, probe.micro_batches, most):
            inputs, own = trainer.normalize(images[row, start : start + most]), labels[row, start : start + most]
            with torch.enable_grad():
                gradients = trainer.objective.gradients(theta.expand(len(own), -1), inputs, own)[1]
            totals[row] += gradients.square().sum()
    return totals / probe.micro_batches
