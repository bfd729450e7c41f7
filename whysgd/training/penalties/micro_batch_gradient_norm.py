"""GN, novack2023's average micro-batch gradient norm."""

from whysgd.training.penalties import PenaltySettings

LABEL = "GN"


def micro_batch_gradient_norm(micro_batches, settings: PenaltySettings):
    """R_B = ‖∇L_B‖², the squared norm of the micro-batch's own gradient; the gradient of λR_B is 2λ H_B g_B.

    Source: Novack et al. 2023, section 2 ("average micro-batch gradient norm").
    """
    gradient, value = micro_batches.squared_norm(micro_batches.losses)
    return settings.strength * gradient, settings.strength * value
