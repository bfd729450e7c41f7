"""A bias of the weights' norm."""

from typing import Literal

from whysgd.study.settings import MethodSettings, NotNegative


class NormBiasSettings(MethodSettings):
    """Pull the norm of the weights towards a value; meant without weight decay, and before clipping."""

    strength: NotNegative
    """Strength s."""
    bias: NotNegative = 0.0
    """Norm b of the weights that is wanted."""
    norm_type: Literal[1, 2] = 1
    """1 for a pull of constant size, 2 for one that grows with the distance."""


def norm_bias(gradient, context, settings: NormBiasSettings):
    """Type 1: g ← g + s · sign(‖θ‖² − b²) on every entry; type 2: g ← g + s · 2(‖θ‖² − b²) · θ.

    Type 1 adds the same number to every entry, whatever the sign of the weight, as released.

    Source: geiping2022's released code; Goldblum et al. 2020.
    """
    excess = context.theta.square().sum(1, keepdim=True) - settings.bias**2
    return gradient + settings.strength * (excess.sign() if settings.norm_type == 1 else 2 * excess * context.theta)
