"""Stochastic gradient descent with momentum."""

from typing import Annotated

from pydantic import Field, model_validator

from whysgd.study.settings import Flag, MethodSettings, NotNegative, Share, Text

LABEL = "SGD"


class SGDSettings(MethodSettings):
    """Momentum and coupled weight decay, as torch.optim.SGD has them."""

    momentum: Annotated[NotNegative, Field(lt=1)] = 0.0
    """Share of the momentum buffer that a step keeps."""
    nesterov: Flag = False
    """Use Nesterov's momentum."""
    dampening: Share = 0.0
    """Share of a gradient that the momentum buffer leaves out, from the second step on."""
    weight_decay: NotNegative = 0.0
    """Coupled weight decay."""
    exempt: tuple[Text, ...] = ()
    """Parts of names of parameters without weight decay; geiping2022's option of decaying linear layers alone only
    exempts [bias, gain].
    """

    @model_validator(mode="after")
    def _fits(self):
        if self.nesterov and self.dampening:
            raise ValueError(f"dampening = {self.dampening!r}: must be 0 with Nesterov's momentum")
        return self


def sgd(theta, state: dict, gradient, lr: float, settings: SGDSettings, layout=None) -> None:
    """Make one step of torch.optim.SGD, to the bit.

        g ← ḡ + weight_decay · θ                  (coupled weight decay)
        b ← momentum · b + (1 − dampening) · g    (at first g)
        θ ← θ − lr · (g + momentum · b)           with Nesterov momentum
        θ ← θ − lr · b                            without

    torch's own is not used because its first step imports torch._dynamo: 1.2 seconds in every job, more than some rows
    of the mini scale train.

    Source: Sutskever et al. 2013, in torch's form.
    """
    theta.add_(momentum_direction(state, decayed(gradient, theta, settings, layout), settings), alpha=-lr)


def decayed(gradient, theta, settings: SGDSettings, layout=None):
    """Return the gradient with weight decay; with a layout, of all parameters that are not exempt."""
    decay = settings.weight_decay
    if not decay or not settings.exempt:
        return gradient.add(theta, alpha=decay) if decay else gradient
    direction = gradient.clone()
    parts, weights = layout.views(direction), layout.views(theta)
    for name, part in parts.items():
        if not any(word in name for word in settings.exempt):
            part.add_(weights[name], alpha=decay)
    return direction


def momentum_direction(state: dict, gradient, settings: SGDSettings):
    """Return the direction that SGD goes against, and move the momentum buffer."""
    if not settings.momentum:
        return gradient
    if "momentum" in state:
        state["momentum"].mul_(settings.momentum).add_(gradient, alpha=1 - settings.dampening)
    else:
        state["momentum"] = gradient.clone()
    return gradient.add(state["momentum"], alpha=settings.momentum) if settings.nesterov else state["momentum"]
