"""Noise in the gradient."""

import numpy as np
import torch

from whysgd.streams import stream
from whysgd.study.settings import MethodSettings, NotNegative


class GradientNoiseSettings(MethodSettings):
    """Add normal noise, and multiply by such."""

    additive: NotNegative = 0.0
    """Its standard deviation σ, added to each entry."""
    multiplicative: NotNegative = 0.0
    """Standard deviation σ of the factors 1 + σξ."""


def gradient_noise(gradient, context, settings: GradientNoiseSettings):
    """g ← (g + σ_a ξ) · (1 + σ_m ξ'), ξ and ξ' standard normal for each entry, new in each step.

    They are drawn in fp32, on the CPU, from the stream (seed, "gradient_noise", step), so that they are the same
    everywhere. Meant to come after clipping.

    Source: geiping2022's released code; Hoffer et al. 2017 for the multiplicative noise.
    """
    random = [stream(seed, "gradient_noise", context.step) for seed in context.seeds]

    def normal():
        drawn = np.stack([one.standard_normal(gradient.shape[1], dtype=np.float32) for one in random])
        return torch.from_numpy(drawn).to(gradient.device, gradient.dtype)

    if settings.additive:
        gradient = gradient + settings.additive * normal()
    if settings.multiplicative:
        gradient = gradient * (1 + settings.multiplicative * normal())
    return gradient
