"""How many micro-batches share a pass. It changes the speed, and a result by rounding alone."""

import torch

from whysgd.models.layers import dropout_keys
from whysgd.training.dense import fits_dense
from whysgd.training.objective import Objective

# Numbers that the parameter vectors of a pass may have at most, and one channel of its images, which a fully connected
# network reads once and a convolution keeps many times over.
THETA_NUMBERS, PIXELS, DENSE_PIXELS = 1 << 20, 1 << 15, 1 << 20


def choose_grouping(objective: Objective, micro_batch: int, pixels: int) -> int:
    """Return how many pairs of a seed and a micro-batch share a pass: as many as stay in cache.

    Small networks on small images are bound by the overhead of each operation and gain up to 16 times; large ones are
    bound by arithmetic, gain nothing, and take one pair at a time. `benchmarks/steps.py` measures both.

    Args:
        objective: the network.
        micro_batch: images of a micro-batch.
        pixels: of one image.
    """
    most = DENSE_PIXELS if fits_dense(objective) else PIXELS
    return max(1, min(THETA_NUMBERS // len(objective.parameters), most // (micro_batch * pixels)))


def saved_bytes(objective: Objective, images: int, shape: tuple[int, ...], device: str = "meta") -> int:
    """Return the bytes that a forward pass over a micro-batch keeps for the backward pass.

    On the device "meta" nothing is computed for it, but torch takes a second to make it ready; a small network on the
    CPU is quicker by far.
    """
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage
        return tensor

    theta = torch.zeros((1, len(objective.parameters)), device=device, requires_grad=True)
    inputs = torch.zeros((1, images, *shape), device=device)
    labels = torch.zeros((1, images), dtype=torch.int64, device=device)
    keys = dropout_keys(labels.new_zeros(1))
    with keys, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        objective.losses(theta, inputs, labels)
    return sum(storage.nbytes() for storage in kept.values())
