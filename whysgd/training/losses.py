"""The losses that networks are trained with."""

import torch
from torch.nn import functional as F

from whysgd.study.spec import LOSSES, MAX_UP


def image_losses(
    logits: torch.Tensor, labels: torch.Tensor, loss: str = "cross_entropy", smoothing: float = 0.0
) -> torch.Tensor:
    """The loss of each image, for logits f (…, classes) and labels y (…).

        cross_entropy             −Σ_c w_c log softmax(f)_c, in nats; w_c = 1 − ε for c = y and ε/(C − 1) for others
        incorrect_cross_entropy   the same where f is largest for another class than y, and 0 elsewhere
        max_up                    the largest cross entropy of each `MAX_UP` neighbours, copies of one image
        linear_hinge              mean_c max(0, 1 − t_c f_c), t_c = 1 for c = y and −1 for the others; no unit

    Args:
        logits: with any number of leading dimensions, at least one.
        labels: of the same leading dimensions.
        loss: one of these.
        smoothing: ε.

    Returns:
        losses (…); of max_up one for each image.

    Raises:
        ValueError: another loss.

    Source: linear_hinge as in Şimşekli et al. 2019 (arXiv 1901.06053), section 5; label smoothing and
    incorrect_cross_entropy, a mean over all images, as in geiping2022's released code; max_up: Gong et al. 2021.
    """
    if loss not in LOSSES:
        raise ValueError(f"loss = {loss!r}: allowed: {', '.join(LOSSES)}")
    if loss != "linear_hinge":
        classes = logits.shape[-1]
        # torch spreads its ε over all classes, the label's among them.
        spread = smoothing * classes / (classes - 1)
        losses = F.cross_entropy(logits.movedim(-1, 1), labels, reduction="none", label_smoothing=spread)
        if loss == "incorrect_cross_entropy":
            return losses * (logits.argmax(-1) != labels)
        return losses.unflatten(-1, (-1, MAX_UP)).amax(-1) if loss == "max_up" else losses
    # Not F.one_hot, which vmap does not take.
    own = labels[..., None] == torch.arange(logits.shape[-1], device=labels.device)
    signs = 2 * own.to(logits.dtype) - 1
    return F.relu(1 - signs * logits).mean(-1)
