"""Stochastic gradient descent with coupled weight decay; `whysgd.training.sgd` makes the step."""

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from whysgd.study.settings import Flag, MethodSettings, NotNegative

if TYPE_CHECKING:
    import torch

LABEL = "SGD"


class SGD(MethodSettings):
    """Momentum and coupled weight decay, as torch.optim.SGD has them."""

    momentum: Annotated[NotNegative, Field(lt=1)] = 0.0
    """Share of the momentum buffer that a step keeps."""
    nesterov: Flag = False
    """Use Nesterov's momentum."""
    weight_decay: NotNegative = 0.0
    """Coupled weight decay."""


def sgd(theta: "torch.Tensor", state: "torch.Tensor", gradient: "torch.Tensor", lr: float, settings: SGD) -> None:
    """Make one step in place on θ and its state, the momentum buffer."""
    from whysgd.training.sgd import sgd_step

    sgd_step(theta, state, gradient, lr, settings.momentum, settings.nesterov, settings.weight_decay)
