"""Gradients of many fully connected networks at once, by the chain rule written out.

Small networks are bound by the overhead of each operation, and torch's autograd makes many. Steps of three networks of
four layers and width 16 on 100 images of 28×28, on one thread, take a quarter of the time that they take one after
another with autograd; `benchmarks/stacked.py` measures it.
"""

import torch
from torch.nn import functional as F

from whysgd.training.objective import Objective


def dense_gradients(
    objective: Objective, theta: torch.Tensor, images: torch.Tensor, labels: torch.Tensor, out: torch.Tensor
) -> torch.Tensor:
    """Gradients of L_B for k networks, or at k blocks, or both.

        h_0 = x,  z_l = h_{l−1} W_lᵀ,  h_l = max(0, z_l),  f = z_D
        δ_D = ∂L/∂f,  δ_l = (δ_{l+1} W_{l+1}) · 1[z_l > 0],  ∂L/∂W_l = δ_lᵀ h_{l−1}

    Args:
        objective: of a network of `whysgd.models.fully_connected`, with its loss.
        theta: (k, P), or (1, P) that all blocks share.
        images: (k, n, C, H, W) normalized, or (1, n, …) that all networks share.
        labels: (k, n), or (1, n).
        out: (k, P), for the gradients.

    Returns:
        losses (k,).
    """
    parameters, k = objective.parameters, len(out)
    places = zip(theta.split(parameters.sizes, 1), out.split(parameters.sizes, 1), parameters.shapes, strict=True)
    weights, gradients = zip(
        *((w.view(len(theta), *shape).expand(k, *shape), g.view(k, *shape)) for w, g, shape in places), strict=True
    )
    hidden = [images.flatten(2).expand(k, -1, -1)]
    for weight in weights[:-1]:
        hidden.append(torch.bmm(hidden[-1], weight.mT).relu_())
    logits = torch.bmm(hidden[-1], weights[-1].mT)
    losses, delta = losses_and_slopes(logits, labels.expand(k, -1), objective.loss)
    for layer in range(len(weights) - 1, -1, -1):
        torch.bmm(delta.mT, hidden[layer], out=gradients[layer])
        if layer:
            # Where ReLU gives 0 it has slope 0, as torch has it.
            delta = torch.ops.aten.threshold_backward(torch.bmm(delta, weights[layer]), hidden[layer], 0)
    return losses


def losses_and_slopes(logits: torch.Tensor, labels: torch.Tensor, loss: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean loss of each block (k,), and its derivative by the logits (k, n, classes).

    Args:
        logits: f (k, n, classes).
        labels: (k, n).
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
