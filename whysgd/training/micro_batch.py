"""novack2023's penalties: λR, R averaged over micro-batches, with the exact gradient by double backward.

Each R_B is the squared norm of the gradient q_B = ∇_θ s_B of a scalar s_B of the micro-batch; they differ in s_B only.
A score is a function `score(logits, noise) -> s (k,)` in `SCORES`: none of them is given the labels.
"""

import numpy as np
import torch

from whysgd.streams import stream
from whysgd.study.spec import MicroBatchPenalty
from whysgd.training.blocks import Block
from whysgd.training.objective import block_losses


def micro_batch_gradient_norm(block: Block, settings: MicroBatchPenalty) -> tuple[torch.Tensor, torch.Tensor]:
    """GN: R_B = ‖∇L_B‖², the squared norm of the micro-batch's own gradient; its gradient is 2λ H_B g_B.

    Args:
        block: one micro-batch or k stacked ones; g must carry its graph.
        settings: λ.

    Returns:
        gradient of λR_B, of the shape of g, and value λR_B, () or (k,), in nats.

    Source: Novack et al. 2023, section 2 ("average micro-batch gradient norm").
    """
    return _squared_norm(block.g, block.theta, settings.strength)


def fisher_trace(block: Block, settings: MicroBatchPenalty) -> tuple[torch.Tensor, torch.Tensor]:
    """FT: R_B = ‖∇L_B^ŷ‖², the loss taken with labels ŷ drawn from the model's own predictive distribution.

    Arguments, returns and source as for `micro_batch_gradient_norm`; block.noise is uniform in [0, 1), (k, n) with n or
    more columns. ŷ does not depend on θ in differentiation.
    """
    return _of_score(block, settings)


def average_jacobian(block: Block, settings: MicroBatchPenalty) -> tuple[torch.Tensor, torch.Tensor]:
    """AJ: R_B = ‖∇_θ Σ_c mean_{x∈B} f_c(x)‖², f the logits.

    Arguments, returns and source as for `micro_batch_gradient_norm`; neither labels nor noise are used.
    """
    return _of_score(block, settings)


def unit_jacobian(block: Block, settings: MicroBatchPenalty) -> tuple[torch.Tensor, torch.Tensor]:
    """UJ: R_B = ‖∇_θ ⟨mean_{x∈B} f(x), u⟩‖², f the logits and u a fresh random unit vector for each micro-batch.

    Arguments, returns and source as for `micro_batch_gradient_norm`; block.noise is u, (k, classes); no labels.
    """
    return _of_score(block, settings)


MICRO_BATCH = {
    "micro_batch_gradient_norm": micro_batch_gradient_norm,
    "fisher_trace": fisher_trace,
    "average_jacobian": average_jacobian,
    "unit_jacobian": unit_jacobian,
}


def _of_score(block: Block, settings: MicroBatchPenalty) -> tuple[torch.Tensor, torch.Tensor]:
    scores = SCORES[settings.name](block.logits, block.noise)
    (q,) = torch.autograd.grad(scores.sum(), block.theta, create_graph=True)
    return _squared_norm(q, block.theta, settings.strength)


def _squared_norm(q: torch.Tensor, theta: torch.Tensor, strength: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradient 2λ (∂q/∂θ)ᵀ q and value λ‖q‖² of each row; q carries its graph to θ."""
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
    settings: MicroBatchPenalty, seed: int, step: int, blocks: int, images: int, classes: int, like: torch.Tensor
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
