"""The trace of the Fisher information: how much the predictions change with the weights."""

from dataclasses import replace

import torch
from torch.func import vmap
from torch.nn import functional as F

from whysgd.measures.estimate import Estimate, mean_of
from whysgd.measures.images import Images
from whysgd.measures.network import Network
from whysgd.measures.untouched import untouched
from whysgd.streams import stream

QUANTITIES = {
    "fisher_trace": ("Fisher trace", "nats²", "lower"),
}


def fisher(model: torch.nn.Module, images: Images, exact: bool = True, first: int | None = 1000) -> dict[str, Estimate]:
    """The mean over images x of E_{y ~ p(·|x)} ‖∇_θ log p(y|x)‖².

    The labels of the data set do not enter: y is the network's own. Where the network is nearly certain, most of the
    sum comes from unlikely labels with large gradients. A drawn label then misses them, and the standard error does,
    too: of a mini network at 100 % training accuracy, 0.7 ± 0.3 with drawn labels of 256 images, 28.5 ± 4.4 with all.

    Args:
        exact: sum over all classes. Otherwise one label is drawn for each image, from the stream (seed,
            "fisher-labels").
        first: use only the first so many images; None: all.

    Returns:
        `fisher_trace` in nats², with s/√n over images.

    Source: Martens 2020, New insights and perspectives on the natural gradient method (arXiv 1412.1193).
    """
    images = images if first is None else images.first(first)
    with untouched(model):
        network = Network(model)  # Of the network's own distribution, whatever it was trained with.
        norms = exact_norms(network, images) if exact else sampled_norms(network, images)
    return {"fisher_trace": replace(mean_of(norms.tolist()), each=())}


def sampled_norms(network: Network, images: Images) -> torch.Tensor:
    """‖∇ log p(y|x)‖² (n,) of each image, with one y ~ p(·|x) each."""
    theta = network.theta
    chances = torch.from_numpy(stream(images.seed, "fisher-labels").random(len(images))).to(theta.device)
    norms, done = [], 0
    for inputs, _ in images.batches():
        with torch.no_grad():
            below = network.logits(theta, inputs).double().softmax(1).cumsum(1)
        u = chances[done : done + len(inputs), None]
        # The sum of all may be a little below 1.
        drawn = (u >= below).sum(1).clamp(max=below.shape[1] - 1)
        done += len(inputs)
        together = network.micro_batches_at_once(1, images)
        for some, labels in zip(inputs.split(together), drawn.split(together), strict=True):
            norms.append(network.gradients(theta, some[:, None], labels[:, None]).square().sum(1))
    return torch.cat(norms)


def exact_norms(network: Network, images: Images) -> torch.Tensor:
    """Σ_y p(y|x) ‖∇ log p(y|x)‖² (n,) of each image."""

    def log_chances(theta, image):
        return F.log_softmax(network.logits(theta, image[None])[0], 0)

    norms = []
    for inputs, _ in images.batches():
        with torch.no_grad():
            classes = network.logits(network.theta, inputs[:1]).shape[1]
        for some in inputs.split(max(1, network.micro_batches_at_once(1, images) // classes)):
            # A copy of θ for each image, so that the gradient of a sum over images has a row for each.
            thetas = network.theta.expand(len(some), -1).requires_grad_()
            log_p = vmap(log_chances)(thetas, some)
            found = [torch.autograd.grad(one.sum(), thetas, retain_graph=True)[0].square().sum(1) for one in log_p.T]
            norms.append((log_p.detach().exp().T * torch.stack(found)).sum(0))
    return torch.cat(norms)
