"""Stochastic gradient descent with momentum."""

from typing import Annotated

from pydantic import Field

from whysgd.study.settings import Flag, MethodSettings, NotNegative

LABEL = "SGD"


class SGDSettings(MethodSettings):
    """Momentum and coupled weight decay, as torch.optim.SGD has them."""

    momentum: Annotated[NotNegative, Field(lt=1)] = 0.0
    """Share of the momentum buffer that a step keeps."""
    nesterov: Flag = False
    """Use Nesterov's momentum."""
    weight_decay: NotNegative = 0.0
    """Coupled weight decay."""


def sgd(theta, state: dict, gradient, lr: float, settings: SGDSettings) -> None:
    """Make one step of torch.optim.SGD, to the bit.

        g ← ḡ + weight_decay · θ                  (coupled weight decay)
        b ← momentum · b + g
        θ ← θ − lr · (g + momentum · b)           with Nesterov momentum
        θ ← θ − lr · b                            without

    torch's own is not used because its first step imports torch._dynamo: 1.2 seconds in every job, more than some rows
    of the mini scale train.

    Args:
        settings: momentum, nesterov and weight_decay.

    Source: Sutskever et al. 2013, in torch's form.
    """
    momentum, decay = settings.momentum, settings.weight_decay
    direction = gradient.add(theta, alpha=decay) if decay else gradient
    if momentum:
        if "momentum" not in state:
            state["momentum"] = theta.new_zeros(theta.shape)
        buffer = state["momentum"].mul_(momentum).add_(direction)
        direction = direction.add(buffer, alpha=momentum) if settings.nesterov else buffer
    theta.add_(direction, alpha=-lr)
