"""novack2023's penalties: λR, R averaged over micro-batches, with the exact gradient by double backward.

Each R_B is the squared norm of the gradient q_B = ∇_θ s_B of a scalar s_B of the micro-batch; they differ in s_B only.
A score is a function `score(logits, noise) -> s (k,)` in `SCORES`: none of them is given the labels.
"""

import numpy as np
import torch

from whysgd.streams import stream
from whysgd.training.blocks import Block
from whysgd.training.objective import block_losses
from whysgd.training.penalties import PenaltySettings


def norm_of_score(block: Block, settings: PenaltySettings) -> tuple[torch.Tensor, torch.Tensor]:
    """Return gradient and value of λ‖∇_θ s‖², s the penalty's score of each micro-batch."""
    scores = SCORES[settings.name](block.logits, block.noise)
    (q,) = torch.autograd.grad(scores.sum(), block.theta, create_graph=True)
    return squared_norm(q, block.theta, settings.strength)


def squared_norm(q: torch.Tensor, theta: torch.Tensor, strength: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return gradient 2λ (∂q/∂θ)ᵀ q and value λ‖q‖² of each row; q carries its graph to θ."""
    fixed = q.detach()
    (product,) = torch.autograd.grad(q, theta, grad_outputs=2 * strength * fixed)
    return product, strength * fixed.square().sum(-1)


def predicted_labels(logits: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """Labels drawn from softmax(logits) by inverting its distribution function at uniform numbers in [0, 1).

    Args:
        logits: (k, n, classes).
        uniform: (k, n or more).

    Returns:
        (k, n), int64.
    """
    n, last = logits.shape[1], logits.shape[2] - 1
    below = logits.detach().softmax(-1).cumsum(-1) <= uniform[:, :n, None]
    # Rounding may leave the last sum a little below 1.
    return below.sum(-1).clamp(max=last)


SCORES = {
    "fisher_trace": lambda logits, uniform: block_losses(logits, predicted_labels(logits, uniform)),
    "average_jacobian": lambda logits, _: logits.mean(1).sum(-1),
    "unit_jacobian": lambda logits, u: (logits.mean(1) * u).sum(-1),
}


def penalty_noise(
    settings: PenaltySettings, seed: int, step: int, blocks: int, images: int, classes: int, like: torch.Tensor
) -> torch.Tensor | None:
    """What a penalty draws in one step, for all its micro-batches, from the stream of (seed, its name, step).

    Args:
        settings: which penalty.
        blocks, images, classes: micro-batches of the step, images of each at most, and classes.
        like: gives dtype and device.

    Returns:
        uniform numbers (blocks, images) for fisher_trace, unit vectors (blocks, classes) for unit_jacobian, else None.
    """
    random = stream(seed, settings.name, step)
    if settings.name == "fisher_trace":
        noise = random.random((blocks, images))
    elif settings.name == "unit_jacobian":
        noise = random.standard_normal((blocks, classes))
        noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    else:
        return None
    # In fp32 a number may round to 1; `predicted_labels` then takes the last class.
    noise = torch.from_numpy(noise).to(like.dtype)
    return noise.pin_memory().to(like.device, non_blocking=True) if like.is_cuda else noise
