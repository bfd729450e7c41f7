"""How many blocks are computed at once, and in which way. It changes the speed, and a result by rounding alone."""

from dataclasses import dataclass

import torch

from whysgd.study.spec import RunSpec, is_exact
from whysgd.training.objective import Objective

# Of a GPU's memory, for what the passes over one stack keep.
MEMORY_SHARE = 0.25
MOST_SHARED, MOST_STREAMS, LARGE_BLOCK = 8, 4, 128


@dataclass(frozen=True)
class Grouping:
    """At most `most` blocks in a stack.

    Attributes:
        way: "copies": one copy of the weights for each block (grouped convolutions); "shared": one batch, batch
            norm block by block (no penalty may shift the weights); "streams": one by one, side by side on a GPU.
    """

    most: int
    way: str = "copies"


def choose_grouping(spec: RunSpec, objective: Objective, shape: tuple[int, ...], blocks: int, memory: int) -> Grouping:
    """Grouping of a run's blocks.

    Args:
        spec: block size and penalty.
        objective: the network.
        shape: of one image, (C, H, W).
        blocks: of one step on this rank.
        memory: of the GPU, in bytes; 0 on a CPU.
    """
    parameters = sum(objective.parameters.sizes)
    small = copies_that_fit(parameters, spec.block, shape[1] * shape[2])
    if small > 1 or memory == 0 or blocks == 1:
        return Grouping(small)
    if spec.penalty is None:
        kept = saved_bytes(objective, spec.block, shape, 2) / 2
        return Grouping(even(min(MOST_SHARED, int(MEMORY_SHARE * memory / kept)), blocks), "shared")
    kept = saved_bytes(objective, spec.block, shape)
    # The exact product keeps the first pass and its gradients while it differentiates them.
    fit = int(MEMORY_SHARE * memory / (kept * (3 if is_exact(spec.penalty) else 1)))
    wanted = MOST_STREAMS if spec.block < LARGE_BLOCK else MOST_STREAMS // 2
    return Grouping(max(1, min(wanted, fit, blocks)), "streams")


def copies_that_fit(parameters: int, block: int, pixels: int) -> int:
    """How many blocks to stack: as many as keep weight copies (4 MB) and one channel of the images in cache.

    Small networks on small images are bound by the overhead of each operation and gain up to 16 times;
    large ones are bound by arithmetic and gain nothing.
    """
    return max(1, min((1 << 20) // parameters, (1 << 15) // (block * pixels)))


def even(most: int, blocks: int) -> int:
    """At most `most`, and a divisor of the blocks if one is at least half of it: each remainder is compiled anew."""
    most = max(1, min(most, blocks))
    divisors = [k for k in range(most, 0, -1) if blocks % k == 0]
    return divisors[0] if 2 * divisors[0] >= most else most


def saved_bytes(objective: Objective, block: int, shape: tuple[int, ...], k: int = 1, device: str = "meta") -> int:
    """What a forward pass over k blocks, sharing their weights, keeps for the backward pass, in bytes.

    On the device "meta" nothing is computed for it, but torch takes a second to make it ready; a small network on the
    CPU is quicker by far.
    """
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage
        return tensor

    theta = torch.zeros(sum(objective.parameters.sizes), device=device, requires_grad=True)
    images = torch.zeros((k, block, *shape), device=device)
    labels = torch.zeros((k, block), dtype=torch.int64, device=device)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        objective.losses(theta, images, labels)
    return sum(storage.nbytes() for storage in kept.values())
