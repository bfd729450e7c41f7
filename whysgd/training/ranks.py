"""Several processes that share the micro-batches of each step, started by torchrun.

Every rank holds the whole state and makes the same update; a step's micro-batches are split among them, and what they
accumulate is summed in one all-reduce. The first rank alone evaluates, logs and writes files.
"""

import os
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import distributed


@dataclass(frozen=True)
class Ranks:
    """This process among its peers; alone by default."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process evaluates, logs and writes files."""
        return self.rank == 0

    def share(self, first: int, end: int) -> tuple[int, int]:
        """Return this rank's part of the micro-batches first … end − 1, neighbours, as evenly as whole ones allow."""
        own, following = (first + (end - first) * r // self.size for r in (self.rank, self.rank + 1))
        return own, following

    def sum(self, *tensors: torch.Tensor) -> list[torch.Tensor]:
        """Return the tensors summed over all ranks, in one all-reduce."""
        if self.size == 1:
            return list(tensors)
        vector = torch.cat([tensor.flatten() for tensor in tensors])
        distributed.all_reduce(vector)
        parts = vector.split([tensor.numel() for tensor in tensors])
        return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]

    def wait(self) -> None:
        """Go on when every rank has come here."""
        if self.size > 1:
            distributed.barrier()


ALONE = Ranks()


def join_ranks(device: torch.device) -> tuple[Ranks, torch.device]:
    """Meet the other ranks that torchrun has started; alone without it.

    Args:
        device: a GPU stands for that of this rank's number on its machine.

    Returns:
        the ranks and this rank's device.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Ranks(), device
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    gpu = device.type == "cuda"
    # One rank may compile for minutes while the others wait for it.
    distributed.init_process_group(
        "nccl" if gpu else "gloo", timeout=timedelta(hours=1), device_id=device if gpu else None
    )  # fmt: skip
    return Ranks(distributed.get_rank(), distributed.get_world_size()), device


def leave_ranks() -> None:
    """Part from the other ranks, if there are any."""
    if distributed.is_initialized():
        distributed.destroy_process_group()
