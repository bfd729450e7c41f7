"""Count what a network computes: `python -m whysgd.models.count NETWORK CHANNELS SIZE CLASSES` prints the numbers."""

import sys

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from whysgd.models.build import build_model
from whysgd.models.layers import dropout_keys


class _Operations(TorchDispatchMode):
    """Count the operations that compute something, which views do not."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += not func.is_view
        return func(*args, **(kwargs or {}))


def count(name: str, channels: int, size: int, classes: int, images: int = 4) -> tuple[int, int, int, int]:
    """Count on the meta device, where nothing is computed.

    Returns:
        operations of a forward pass; floating-point operations of an image's forward pass; bytes that it keeps for the
        backward pass; parameters.
    """
    model = build_model(name, channels, classes, seed=0, size=size).to("meta")
    own = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    saved: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        saved[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
        return tensor

    inputs = torch.zeros(images, channels, size, size, device="meta")
    flops, operations = FlopCounterMode(display=False), _Operations()
    keys = dropout_keys(torch.zeros(1, dtype=torch.int64, device="meta"))
    with keys, flops, operations, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(inputs)
    kept = sum(storage.nbytes() for key, storage in saved.items() if key not in own)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return operations.count, flops.get_total_flops() // images, kept // images, parameters


if __name__ == "__main__":
    print(*count(sys.argv[1], *map(int, sys.argv[2:])))
