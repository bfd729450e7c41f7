"""Mean loss and accuracy over a data set, in evaluation mode."""

from math import nan

import torch

from whysgd.training.losses import image_losses
from whysgd.training.objective import Objective

BATCH = 1000


@torch.inference_mode()
def reaches(objective: Objective, theta, running, images, labels, normalize, accuracy: float) -> bool:
    """Return whether `evaluate` finds this accuracy, in percent, or more; it ends with the images that rule it out."""
    wrong, count = 0, len(labels)
    for start in range(0, count, BATCH):
        batch = images[start : start + BATCH].to(theta.device, non_blocking=True)
        answers = objective.logits(theta, running, normalize(batch)).argmax(1)
        wrong += (answers != labels[start : start + BATCH]).sum().item()
        if 100 * (count - wrong) / count < accuracy:
            return False
    return True


@torch.inference_mode()
def evaluate(
    objective: Objective, theta, running, images, labels, normalize, loss: str = "cross_entropy", flips: bool = False
) -> dict[str, float]:
    """Loss and accuracy at θ with running statistics.

    Args:
        objective: the network.
        theta, running: (P,) and (Q,).
        images, labels: (n, C, H, W) uint8, on any device, and (n,) on that of θ.
        normalize: uint8 to floating point.
        loss: which to take the mean of, see `whysgd.training.losses`.
        flips: take the mean of the probabilities that the network gives an image and its mirror image, and the cross
            entropy of that.

    Returns:
        `loss` (nan if it is not finite) and `accuracy` (percent).
    """
    total, correct = theta.new_zeros(()), torch.zeros((), dtype=torch.int64, device=theta.device)
    for start in range(0, len(labels), BATCH):
        part = labels[start : start + BATCH]
        batch = images[start : start + BATCH].to(theta.device, non_blocking=True)
        logits = objective.logits(theta, running, normalize(batch))
        if flips:
            mirrored = objective.logits(theta, running, normalize(batch.flip(-1)))
            logits = torch.stack([logits, mirrored]).log_softmax(2).logsumexp(0)
        total += image_losses(logits, part, loss).sum()
        correct += (logits.argmax(1) == part).sum()
    mean = total.item() / len(labels)
    return {"loss": mean if abs(mean) < float("inf") else nan, "accuracy": 100 * correct.item() / len(labels)}
