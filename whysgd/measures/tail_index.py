"""How heavy the tails of the gradient noise are: its tail index α."""

import math
from collections.abc import Iterator

import torch
from torch.func import functional_call

from whysgd.measures.alpha import AlphaEstimate
from whysgd.measures.estimate import Estimate
from whysgd.measures.images import Images
from whysgd.measures.network import Network
from whysgd.measures.noise import noise_of
from whysgd.measures.untouched import untouched
from whysgd.training.losses import image_losses

QUANTITIES = {
    "tail_index": ("tail index of gradient noise", ""),
    "tail_index_active": ("tail index, active parameters", ""),
    "inactive_parameters": ("inactive parameters", "%"),
}


def tail_index(model: torch.nn.Module, images: Images, micro_batch: int = 100) -> dict[str, Estimate]:
    """The tail index of the gradient noise U_b = g_b − mean_b g_b of P micro-batches, in evaluation mode.

    The entries of all U_b, one micro-batch after another, are taken for samples of one symmetric α-stable variable: 2
    is normal, less is heavier tails. See `whysgd.measures.alpha` for the estimator and `whysgd.measures.noise` for its
    passes.

    Args:
        model: the network.
        images: of the training set, in their own order, as published; a last micro-batch that is not full is left out.
            The gradients are of the loss that the run was trained with.
        micro_batch: images of a micro-batch.

    Returns:
        `tail_index`, as published; `tail_index_active`, without the parameters whose gradient is exactly zero on every
        micro-batch, which enter the former as log 2⁻⁵², and with its m; and `inactive_parameters`, how many those are,
        in percent. No units of α. Standard errors and 95 % intervals are those of a bootstrap over neighbouring
        micro-batches: for others of the same images, not for other images, whose mean gradient and silent parameters
        would differ; and they say nothing of the estimator's bias where noise is not α-stable. All nan if a gradient is
        not finite. `samples` are the micro-batches.

    Raises:
        ValueError: fewer than two full micro-batches.

    Source: Şimşekli et al. 2019, A tail-index analysis of stochastic gradient noise (arXiv 1901.06053).
    """
    count = len(images) // micro_batch if micro_batch >= 1 else 0
    if count < 2:
        raise ValueError(
            f"micro_batch = {micro_batch}: {len(images)} images make {count} full micro-batches; two are needed"
        )
    images = images.first(count * micro_batch)
    with untouched(model, in_place=False):
        network = Network(model, images.loss)
        noise = noise_of(lambda: micro_batch_gradients(network, images, micro_batch), count, len(network.theta))
    share = 100 * noise.inactive
    return {
        "tail_index": _estimate(noise.alpha, count),
        "tail_index_active": _estimate(noise.active, count),
        "inactive_parameters": Estimate(share, None if math.isnan(share) else 0.0, count),
    }


def micro_batch_gradients(network: Network, images: Images, micro_batch: int) -> Iterator[torch.Tensor]:
    """Stacks (k, M) of the gradients at the network's θ of micro-batches, in the order of the images.

    Those of a large network come one by one, all in one buffer. The gradient of each tensor is added to its place there
    and freed; autograd's gradient of the whole θ would be in memory twice while its parts are put together.
    """
    together = network.micro_batches_at_once(micro_batch, images)
    if together > 1:
        for inputs, labels in images.batches(together * micro_batch):
            yield network.gradients(network.theta, *(part.unflatten(0, (-1, micro_batch)) for part in (inputs, labels)))
        return
    gradient = torch.zeros_like(network.theta)
    leaves = {name: part.detach().requires_grad_() for name, part in network.layout.inputs(network.theta).items()}
    for name, part in network.layout.views(gradient).items():
        leaves[name].grad = part
    for inputs, labels in images.batches(micro_batch):
        gradient.zero_()
        logits = functional_call(network.model, leaves, (inputs.to(gradient.dtype),))
        image_losses(logits, labels, network.loss_name).mean().backward()
        yield gradient[None]


def _estimate(found: AlphaEstimate, count: int) -> Estimate:
    if not found.value > 0:  # Lighter than normal tails: no α describes them.
        return Estimate(math.nan, None, count)
    if math.isnan(found.std_error):
        return Estimate(found.value, None, count)
    return Estimate(found.value, found.std_error, count, interval=(found.low, found.high))
