"""Steps by the optimizers of torch.optim."""

import torch

from whysgd.study.registry import options_for
from whysgd.study.settings import MethodSettings


def step(theta, state: dict, gradient, lr: float, target: type, settings: MethodSettings) -> None:
    """Make one step of a class of torch.optim in place, of each seed on its own.

    Args:
        theta, gradient: (seeds, P).
        state: what the optimizer remembers, each with a row for each seed; empty before the first step.
        lr: the learning rate.
        target: the class.
        settings: its other arguments.
    """
    options = options_for("optimizer", target, settings)
    remembered = []
    for row in range(len(theta)):
        parameter = torch.nn.Parameter(theta[row])
        parameter.grad = gradient[row]
        optimizer = target([parameter], lr=lr, **options)
        optimizer.state[parameter].update({name: tensor[row].clone() for name, tensor in state.items()})
        optimizer.step()
        theta[row].copy_(parameter.detach())
        remembered.append(dict(optimizer.state[parameter]))
    for name in remembered[0]:
        state[name] = torch.stack([torch.as_tensor(one[name]) for one in remembered])
