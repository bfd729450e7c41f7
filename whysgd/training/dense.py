"""Gradients of fully connected networks, by the chain rule written out.

Small networks are bound by the overhead of each operation, and torch's autograd makes many. Steps of three networks of
four layers and width 16 on 100 images of 28×28, on one thread, take a quarter of the time that they take one after
another with autograd; `benchmarks/steps.py` measures it.
"""

import torch
from torch.nn import functional as F

from whysgd.models.fully_connected import FullyConnected
from whysgd.training.objective import Objective


def fits_dense(objective: Objective) -> bool:
    """Return whether `dense_gradients` can stand in for the objective's own gradients."""
    fits = objective.dtype is None and isinstance(objective.model, FullyConnected)
    return fits and objective.loss in ("cross_entropy", "linear_hinge") and not objective.smoothing


def dense_gradients(objective: Objective, theta: torch.Tensor, images: torch.Tensor, labels: torch.Tensor):
    """Return what `Objective.gradients` does, for K fully connected networks, each on a micro-batch of its own.

        h_0 = x,  z_l = h_{l−1} W_lᵀ,  h_l = max(0, z_l),  f = z_D
        δ_D = ∂L/∂f,  δ_l = (δ_{l+1} W_{l+1}) · 1[z_l > 0],  ∂L/∂W_l = δ_lᵀ h_{l−1}

    Args:
        objective: of a network of `whysgd.models.fully_connected`, with its loss.
        theta, images, labels: (K, P), (K, n, C, H, W) normalized, (K, n).

    Returns:
        losses (K,), gradients (K, P), and statistics (K, 0).
    """
    parameters, k = objective.parameters, len(theta)
    out = torch.empty(theta.shape, dtype=theta.dtype, device=theta.device)
    weights, gradients = (
        [part.view(k, *shape) for part, shape in zip(whole.split(parameters.sizes, 1), parameters.shapes, strict=True)]
        for whole in (theta, out)
    )
    hidden = [images.flatten(2)]
    for weight in weights[:-1]:
        hidden.append(torch.bmm(hidden[-1], weight.mT).relu_())
    logits = torch.bmm(hidden[-1], weights[-1].mT)
    losses, delta = losses_and_slopes(logits, labels, objective.loss)
    for layer in range(len(weights) - 1, -1, -1):
        torch.bmm(delta.mT, hidden[layer], out=gradients[layer])
        if layer:
            # Where ReLU gives 0 it has slope 0, as torch has it.
            delta = torch.ops.aten.threshold_backward(torch.bmm(delta, weights[layer]), hidden[layer], 0)
    return losses, out, theta.new_zeros(k, 0)


def losses_and_slopes(logits: torch.Tensor, labels: torch.Tensor, loss: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean loss of each micro-batch (K,), and its derivative by the logits (K, n, classes).

    Args:
        logits: f (K, n, classes).
        labels: (K, n).
        loss: see `whysgd.training.losses`.
    """
    n, classes = logits.shape[1:]
    target = F.one_hot(labels, classes).to(logits.dtype)
    if loss == "cross_entropy":
        logs = logits.log_softmax(2)
        return logs.mul(target).sum((1, 2)).div_(-n), logs.exp_().sub_(target).div_(n)
    signs = target.mul_(2).sub_(1)
    margins = (1 - signs * logits).clamp_(min=0)
    slopes = signs.mul_(margins > 0).div_(-n * classes)
    return margins.mean((1, 2)), slopes


def fastest_gradients(objective: Objective):
    """Return the faster of `dense_gradients` and `Objective.gradients`, which stays the reference."""
    return dense_gradients if fits_dense(objective) else Objective.gradients
