"""FT, novack2023's average micro-batch Fisher trace."""

from whysgd.training.penalties import PenaltySettings

LABEL = "FT"


def fisher_trace(micro_batches, settings: PenaltySettings):
    """R_B = ‖∇L_B^ŷ‖², the loss taken with labels ŷ drawn from the model's own predictive distribution.

    ŷ does not depend on θ in differentiation; the labels of the images are not used.

    Source: Novack et al. 2023, section 2.
    """
    logits = micro_batches.logits
    scores = micro_batches.mean_losses(logits, predicted_labels(logits, micro_batches.draws))
    gradient, value = micro_batches.squared_norm(scores)
    return settings.strength * gradient, settings.strength * value


def draw(random, count: int, images: int, classes: int):
    """Return uniform numbers in [0, 1), (count, images)."""
    return random.random((count, images))


fisher_trace.draw = draw


def predicted_labels(logits, uniform):
    """Draw labels from softmax(logits) by inverting its distribution function at uniform numbers in [0, 1).

    Args:
        logits: (K, n, classes).
        uniform: (K, n or more).

    Returns:
        (K, n), int64.
    """
    n, last = logits.shape[1], logits.shape[2] - 1
    below = logits.detach().softmax(-1).cumsum(-1) <= uniform[:, :n, None]
    # Rounding may leave the last sum a little below 1, or a uniform number in fp32 at 1.
    return below.sum(-1).clamp(max=last)
