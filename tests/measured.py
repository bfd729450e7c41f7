"""A network with batch norm and images to measure, in float64, and the plain truth about its loss."""

import torch
from networks import Smooth
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from whysgd.measures.alpha import alpha_estimator, largest_divisor
from whysgd.measures.images import Images

CLASSES = 3


def images(n: int = 23, seed: int = 0, batch: int = 1000, pixels: int = 4) -> Images:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(n, 1, pixels, pixels, generator=generator, dtype=torch.float64)
    return Images(inputs, torch.randint(0, CLASSES, (n,), generator=generator), batch=batch, seed=seed)


def network() -> nn.Module:
    """Smooth, with running statistics of its own, in training mode but for its norm."""
    generator = torch.Generator().manual_seed(0)
    model = Smooth().double()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.5 * torch.randn(p.shape, generator=generator, dtype=p.dtype))
        model.head.weight.mul_(4)
        model.norm.running_mean.copy_(torch.tensor([0.3, -0.2]))
        model.norm.running_var.copy_(torch.tensor([0.5, 2.0]))
    model.train().norm.eval()
    return model


class Softmax(nn.Module):
    """Softmax regression without a bias: logits W x, with W (classes, d)."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(torch.as_tensor(weight, dtype=torch.float64))

    def forward(self, inputs):
        return inputs.flatten(1) @ self.weight.T


def softmax() -> Softmax:
    """For the images of `images()`."""
    return Softmax(0.3 * torch.randn(CLASSES, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64))


def stored_alpha(noise: torch.Tensor, m: int | None = None) -> float:
    """The tail index of stored noise (P, M) at once; what does not fill a last sum of m entries is left out."""
    m, flat = m or largest_divisor(noise.numel()), noise.flatten()
    return alpha_estimator(m, flat[: len(flat) - len(flat) % m])


def vector(tensors) -> torch.Tensor:
    return torch.cat([t.detach().flatten() for t in tensors])


def loss_of(model: nn.Module, inputs, labels):
    """The mean cross entropy as a function of the parameter vector, in evaluation mode; θ itself."""
    named = dict(model.named_parameters())
    sizes = [p.numel() for p in named.values()]

    def loss(theta):
        parts = theta.split(sizes)
        at = {name: part.view(p.shape) for (name, p), part in zip(named.items(), parts, strict=True)}
        was = [m.training for m in model.modules()]
        logits = functional_call(model.eval(), at, (inputs,))
        for module, training in zip(model.modules(), was, strict=True):
            module.training = training
        return F.cross_entropy(logits, labels)

    return loss, vector(named.values())


def gradient_of(model: nn.Module, inputs, labels) -> torch.Tensor:
    loss, theta = loss_of(model, inputs, labels)
    theta.requires_grad_()
    return torch.autograd.grad(loss(theta), theta)[0]
