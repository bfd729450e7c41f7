"""UJ, novack2023's unit Jacobian."""

import numpy as np

from whysgd.training.penalties import PenaltySettings

LABEL = "UJ"


def unit_jacobian(micro_batches, settings: PenaltySettings):
    """R_B = ‖∇_θ ⟨mean_{x∈B} f(x), u⟩‖², f the logits and u a fresh random unit vector for each micro-batch.

    The labels are not used.

    Source: Novack et al. 2023, section 2.
    """
    gradient, value = micro_batches.squared_norm((micro_batches.logits.mean(1) * micro_batches.draws).sum(-1))
    return settings.strength * gradient, settings.strength * value


def draw(random, count: int, images: int, classes: int):
    """Return unit vectors u (count, classes)."""
    vectors = random.standard_normal((count, classes))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


unit_jacobian.draw = draw
