"""The losses that networks are trained with."""

import torch
from torch.nn import functional as F


def image_losses(logits: torch.Tensor, labels: torch.Tensor, loss: str = "cross_entropy") -> torch.Tensor:
    """The loss of each image, for logits f (…, classes) and labels y (…).

        cross_entropy   −log softmax(f)_y, in nats
        linear_hinge    mean_c max(0, 1 − t_c f_c), t_c = 1 for c = y and −1 for the others; no unit

    Args:
        logits: with any number of leading dimensions, at least one.
        labels: of the same leading dimensions.
        loss: one of `whysgd.study.spec.LOSSES`.

    Returns:
        losses (…).

    Raises:
        ValueError: another loss.

    Source: linear_hinge as in Şimşekli et al. 2019 (arXiv 1901.06053), section 5.
    """
    if loss == "cross_entropy":
        return F.cross_entropy(logits.movedim(-1, 1), labels, reduction="none")
    if loss != "linear_hinge":
        raise ValueError(f"loss = {loss!r}: allowed: cross_entropy, linear_hinge")
    # Not F.one_hot, which vmap does not take.
    own = labels[..., None] == torch.arange(logits.shape[-1], device=labels.device)
    signs = 2 * own.to(logits.dtype) - 1
    return F.relu(1 - signs * logits).mean(-1)
