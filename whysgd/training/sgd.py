"""Stochastic gradient descent on the parameter vector.

The update is torch.optim.SGD's, to the bit. torch's own is not used because its first step imports
torch._dynamo: 1.2 seconds in every job, more than some rows of the mini scale train.
"""

import torch


@torch.no_grad()
def sgd_step(theta, momentum_buffer, gradient, lr: float, momentum: float, nesterov: bool, weight_decay: float):
    """One step, in place on θ and the momentum buffer b.

        g ← ḡ + weight_decay · θ                  (coupled weight decay)
        b ← momentum · b + g
        θ ← θ − lr · (g + momentum · b)           with Nesterov momentum
        θ ← θ − lr · b                            without

    Args:
        theta, momentum_buffer, gradient: (P,); a buffer of zeros makes the first step torch's own. On a GPU it is
            one kernel.

    Source: Sutskever et al. 2013, in torch's form.
    """
    if theta.device.type == "cuda":
        fused_sgd_step(theta, momentum_buffer, gradient, lr, momentum, nesterov, weight_decay)
        return
    g = gradient.add(theta, alpha=weight_decay) if weight_decay else gradient
    momentum_buffer.mul_(momentum).add_(g)
    theta.add_(g.add(momentum_buffer, alpha=momentum) if nesterov else momentum_buffer, alpha=-lr)


@torch.no_grad()
def fused_sgd_step(theta, momentum_buffer, gradient, lr: float, momentum: float, nesterov: bool, weight_decay: float):
    """`sgd_step` by the kernel behind torch.optim.SGD(fused=True); equal up to rounding."""
    torch._fused_sgd_(
        [theta], [gradient], [momentum_buffer] if momentum else [], weight_decay=weight_decay, momentum=momentum, lr=lr,
        dampening=0.0, nesterov=nesterov, maximize=False, is_first_step=False,
    )  # fmt: skip
