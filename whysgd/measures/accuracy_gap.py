"""Accuracy and loss on training and test images, and the gaps between them."""

import math

import torch

from whysgd.measures.estimate import Estimate
from whysgd.measures.images import Images
from whysgd.measures.network import Network, finite
from whysgd.measures.untouched import untouched

QUANTITIES = {
    "train_accuracy": ("training accuracy", "%"),
    "test_accuracy": ("test accuracy", "%"),
    "accuracy_gap": ("accuracy gap", "points"),
    "train_loss": ("training loss", "nats"),
    "test_loss": ("test loss", "nats"),
    "loss_gap": ("loss gap", "nats"),
}


def accuracy_gap(model: torch.nn.Module, images: Images, test: Images) -> dict[str, Estimate]:
    """How much better the network is on the images that it was trained on.

        accuracy gap = training accuracy − test accuracy,    loss gap = test loss − training loss

    Args:
        test: test images.

    Returns:
        `train_accuracy` and `test_accuracy` in percent, `accuracy_gap` in points, and `train_loss`, `test_loss` and
        `loss_gap` in the unit of the loss. Standard errors are those over images: binomial of an accuracy, s/√n of a
        mean loss, and of a gap the root of the sum of both squares.
    """
    with untouched(model):
        network = Network(model, images.loss)
        (train_loss, train_accuracy), (test_loss, test_accuracy) = (
            _loss_and_accuracy(*network.evaluate(network.theta, some)) for some in (images, test)
        )
    return {
        "train_accuracy": train_accuracy,
        "test_accuracy": test_accuracy,
        "accuracy_gap": _difference(train_accuracy, test_accuracy),
        "train_loss": train_loss,
        "test_loss": test_loss,
        "loss_gap": _difference(test_loss, train_loss),
    }


def _loss_and_accuracy(losses: torch.Tensor, correct: torch.Tensor) -> tuple[Estimate, Estimate]:
    """Return mean loss and accuracy; `correct` (n,) is 1 where the network is right, 0 where it is wrong."""
    n, share = len(losses), correct.mean().item()
    error = finite(losses.std() / math.sqrt(n)) if n > 1 else math.nan
    loss = Estimate(finite(losses.mean()), None if math.isnan(error) else error, n)
    return loss, Estimate(100 * share, 100 * math.sqrt(share * (1 - share) / n), n)


def _difference(a: Estimate, b: Estimate) -> Estimate:
    """a − b of independent estimates."""
    known = a.std_error is not None and b.std_error is not None
    error = math.hypot(a.std_error, b.std_error) if known else None
    return Estimate(a.value - b.value, error, a.samples + b.samples)
