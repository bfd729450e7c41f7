"""Stochastic gradient descent with momentum."""

from whysgd.study.spec import RunSpec


def sgd(theta, state: dict, gradient, lr: float, settings: RunSpec) -> None:
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
