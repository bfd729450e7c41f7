"""What is done to a step's gradient before the optimizer sees it."""

import torch


def clip(gradient: torch.Tensor, norm: torch.Tensor, limit: float) -> torch.Tensor:
    """g ← g · limit / (‖g‖ + 1e-6) if ‖g‖ > limit, else g unchanged.

    Args:
        gradient: all parameters' gradients in one vector (P,).
        norm: its L2 norm, a scalar.
        limit: the largest norm that passes.

    Source: geiping2022, with the constant of torch.nn.utils.clip_grad_norm_.
    """
    return gradient * torch.where(norm > limit, limit / (norm + 1e-6), 1.0)
