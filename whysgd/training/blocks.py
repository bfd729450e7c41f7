"""What penalties are given: one block, or several stacked ones."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

Gradient = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Block:
    """What a penalty may know about one block (P,), or k stacked blocks (k, P).

    Attributes:
        theta: θ, a copy for each block.
        g: g_B = ∇L_B(θ); carries its graph to θ if the penalty `needs_graph`.
        gradient: ∇L_B as a function of θ, without side effects.
        lr: the current learning rate η.
        pre_gradient: the full gradient ḡ_pre at the same θ, (P,), if the penalty `needs_pre_gradient`.
        logits: (k, n, classes), with their graph to θ, if the penalty is one of novack2023's.
        noise: what `penalty_noise` drew for these blocks, if the penalty draws.
    """

    theta: torch.Tensor
    g: torch.Tensor
    gradient: Gradient | None = None
    lr: float = 0.0
    pre_gradient: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    noise: torch.Tensor | None = None
