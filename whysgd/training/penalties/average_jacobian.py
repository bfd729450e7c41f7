"""AJ, novack2023's average Jacobian."""

from whysgd.training.penalties import PenaltySettings

LABEL = "AJ"


def average_jacobian(micro_batches, settings: PenaltySettings):
    """R_B = ‖∇_θ Σ_c mean_{x∈B} f_c(x)‖², f the logits; the labels are not used.

    Source: Novack et al. 2023, section 2.
    """
    gradient, value = micro_batches.squared_norm(micro_batches.logits.mean(1).sum(-1))
    return settings.strength * gradient, settings.strength * value
