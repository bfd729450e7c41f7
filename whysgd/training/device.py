"""Choosing and preparing the device a job runs on."""

import ctypes
import sys

import torch

from whysgd.errors import UserError


def prepare_device(name: str = "auto", threads: int = 1) -> torch.device:
    """The device to train on, with threads, precision and allocator set.

    Args:
        name: auto (a GPU if there is one), cpu or cuda.
        threads: CPU threads of this process.

    Raises:
        UserError: cuda was asked for and there is none.
    """
    torch.set_num_threads(threads)
    # "fp32" means fp32: torch's default would let cuDNN round to TF32.
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device = cuda: there is no GPU that torch can use; allowed: auto, cpu")
    if name == "cuda" or (name == "auto" and torch.cuda.is_available()):
        return torch.device("cuda")
    _keep_freed_memory()
    return torch.device("cpu")


def _keep_freed_memory() -> None:
    """Let glibc reuse freed activations instead of returning them to the kernel at once.

    Saves the page faults of every activation: 31 ms instead of 37 ms for a regularized step of the
    mini network (128 blocks of 4, one thread). Elsewhere than on Linux it does nothing.
    """
    if sys.platform != "linux":
        return
    mmap_threshold, trim_threshold, top_pad = -3, -1, -2
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt(mmap_threshold, 1 << 28)
        libc.mallopt(trim_threshold, 1 << 30)
        libc.mallopt(top_pad, 1 << 26)
    except (OSError, AttributeError):
        return
