"""Leaving a network as it was found."""

from contextlib import contextmanager

import torch


@contextmanager
def untouched(model: torch.nn.Module, in_place: bool = True):
    """The network in evaluation mode within; afterwards weights, buffers, gradients and modes are as before.

    torch's global random state on the CPU, too. Within, gradients are computed even if the caller has switched them
    off.

    Args:
        model: the network.
        in_place: whether weights or buffers may be changed in place within; a copy of them is kept meanwhile.
    """
    modes = {module: module.training for module in model.modules()}
    tensors = [*model.parameters(), *model.buffers()] if in_place else []
    values = [tensor.detach().clone() for tensor in tensors]
    gradients = [(p, p.grad) for p in model.parameters()]
    model.eval()
    try:
        # A torch DataLoader draws from the global random state each time it is gone through.
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            yield
    finally:
        for module, training in modes.items():
            module.training = training
        with torch.no_grad():
            for tensor, value in zip(tensors, values, strict=True):
                tensor.copy_(value)
        for parameter, gradient in gradients:
            parameter.grad = gradient
