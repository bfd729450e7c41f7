"""Small networks with known smoothness, and the slow, obvious truths about them."""

import torch
from torch import nn
from torch.func import functional_call, grad, jacrev
from torch.nn import functional as F

from whysgd.models.build import initialize
from whysgd.models.layers import BatchNorm2d, Conv2d, Linear
from whysgd.study.registry import find, network
from whysgd.training.objective import Objective

# Fewer channels where the published number takes seconds in float64.
NARROW = {
    "vgg11_bn": {"width": 8}, "vgg11": {"width": 8}, "vgg16_bn_small": {"width": 8}, "resnet18_conv": {"width": 8},
    "densenet121": {"growth": 4},
}  # fmt: skip


def narrow(name: str) -> nn.Module:
    """A network for 3 channels and 10 classes in float64, as deep as its name says."""
    model = find("network", name)(3, 10, 32, **network(name)[1] | NARROW.get(name, {}))
    initialize(model, 0, getattr(model, "init", "he_fan_out"))
    return model.double()


class Smooth(nn.Module):
    """Convolution, batch norm, tanh, mean, linear: smooth in its parameters, so that differences converge."""

    def __init__(self, channels: int = 1, classes: int = 3):
        super().__init__()
        self.conv = Conv2d(channels, 2, 3, padding=1)
        self.norm = BatchNorm2d(2)
        self.head = Linear(2, classes)
        # The project's layers draw no weights of their own.
        initialize(self, 0)

    def forward(self, x):
        out = torch.tanh(self.norm(self.conv(x)))
        return self.head(out.mean((2, 3)))


def theta_of(objective: Objective) -> torch.Tensor:
    """The weights of the network as a parameter vector."""
    return objective.parameters.vector({name: p.detach() for name, p in objective.model.named_parameters()})


def smooth_objective():
    """An `Objective` of `Smooth` in float64 and a parameter vector."""
    torch.manual_seed(0)
    objective = Objective(Smooth().double())
    theta = theta_of(objective)
    return objective, theta + 0.3 * torch.randn_like(theta)


def plain_logits(model, places, theta, images):
    """Logits of one micro-batch with torch's own batch norm, nothing of the project's in between."""
    buffers = {name: torch.zeros_like(b) for name, b in model.named_buffers()}
    parts = theta.split(places.sizes)
    named = {n: p.view(s) for n, p, s in zip(places.names, parts, places.shapes, strict=True)}
    return functional_call(model.train(), {**named, **buffers}, (images,))


def plain_loss(model, places, theta, images, labels):
    """Mean cross entropy of one micro-batch."""
    return F.cross_entropy(plain_logits(model, places, theta, images), labels)


def dense(objective, theta, images, labels):
    """Gradient (P,) and Hessian (P, P) of one micro-batch's loss, reverse over reverse on the whole vector.

    Not torch.func.hessian: in torch 2.11 its forward mode loses part of batch norm's dependence on its weight.
    """

    def loss(at):
        return plain_loss(objective.model, objective.parameters, at, images, labels)

    return grad(loss)(theta), jacrev(grad(loss))(theta)


def random_batches(sizes, channels: int = 1, pixels: int = 5, classes: int = 3, seed: int = 1):
    """Micro-batches of the given sizes: images (n, C, H, W) and labels (n,), in float64."""
    generator = torch.Generator().manual_seed(seed)
    return [
        (
            torch.randn(n, channels, pixels, pixels, generator=generator, dtype=torch.float64),
            torch.randint(0, classes, (n,), generator=generator),
        )
        for n in sizes
    ]


def grouped(seeds, most: int):
    """The micro-batches of each seed as groups (S, k, n, …) of neighbours of equal size."""
    groups: list[list] = []
    for pairs in zip(*seeds, strict=True):
        if groups and len(groups[-1]) < most and len(groups[-1][0][0][1]) == len(pairs[0][1]):
            groups[-1].append(pairs)
        else:
            groups.append([pairs])
    return [tuple(torch.stack([torch.stack([pairs[s][part] for pairs in g]) for s in range(len(seeds))]) for part in (0, 1))
            for g in groups]  # fmt: skip
