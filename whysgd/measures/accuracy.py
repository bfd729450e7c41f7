"""Mean loss and accuracy over a data set, in evaluation mode."""

from collections.abc import Callable, Iterator
from math import isfinite, nan

import torch

from whysgd.training.losses import image_losses
from whysgd.training.objective import Objective

BATCH = 1000
# From images (n, C, H, W), uint8, to logits (n, classes).
Logits = Callable[[torch.Tensor], torch.Tensor]


def logits_at(objective: Objective, theta, running, normalize, flips: bool = False) -> Logits:
    """Return the function of images, uint8 on any device, that a network is with these weights.

    Args:
        objective: the network.
        theta, running: (P,) and (Q,).
        normalize: uint8 to floating point.
        flips: the logarithm of the mean of the probabilities that the network gives an image and its mirror image.
    """

    def logits(images: torch.Tensor) -> torch.Tensor:
        batch = images.to(theta.device, non_blocking=True)
        found = objective.logits(theta, running, normalize(batch))
        if not flips:
            return found
        mirrored = objective.logits(theta, running, normalize(batch.flip(-1)))
        return torch.stack([found, mirrored]).log_softmax(2).logsumexp(0)

    return logits


@torch.inference_mode()
def evaluate(logits: Logits, images, labels, loss: str = "cross_entropy") -> dict[str, float]:
    """Return the mean `loss` (nan if it is not finite) and the `accuracy` [%].

    Args:
        logits: see `logits_at`.
        images, labels: (n, C, H, W) uint8 and (n,), these on the device of the logits.
        loss: which to take the mean of, see `whysgd.training.losses`.
    """
    total = correct = 0
    for found, part in _parts(logits, images, labels):
        total += image_losses(found, part, loss).sum()
        correct += (found.argmax(1) == part).sum()
    mean = total.item() / len(labels)
    return {"loss": mean if isfinite(mean) else nan, "accuracy": 100 * correct.item() / len(labels)}


@torch.inference_mode()
def reaches(logits: Logits, images, labels, accuracy: float) -> bool:
    """Return whether `evaluate` finds this accuracy [%] or more; images after those that rule it out are not seen."""
    wrong, count = 0, len(labels)
    for found, part in _parts(logits, images, labels):
        wrong += (found.argmax(1) != part).sum().item()
        if 100 * (count - wrong) / count < accuracy:
            return False
    return True


def _parts(logits: Logits, images, labels) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield the logits and labels of neighbouring images."""
    for start in range(0, len(labels), BATCH):
        yield logits(images[start : start + BATCH]), labels[start : start + BATCH]
