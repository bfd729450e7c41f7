"""Choosing and preparing the device a job runs on."""

import ctypes
import sys

import torch

from whysgd.errors import UserError
from whysgd.results.machine import processor_name
from whysgd.study.spec import RunSpec, resolved_precision


def prepare_device(name: str = "auto", threads: int = 1) -> torch.device:
    """Return the device to train on, with threads, precision and allocator set.

    Args:
        name: auto (a GPU if there is one), cpu or cuda.
        threads: CPU threads of this process.

    Raises:
        UserError: cuda was asked for and there is none.
    """
    torch.set_num_threads(threads)
    allow_tf32(False)
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device = cuda: there is no GPU that torch can use; allowed: auto, cpu")
    if name == "cuda" or (name == "auto" and torch.cuda.is_available()):
        # All micro-batches have one shape, so trying algorithms once pays.
        torch.backends.cudnn.benchmark = True
        return torch.device("cuda")
    _keep_freed_memory()
    return torch.device("cpu")


def allow_tf32(allowed: bool) -> None:
    """Let GPUs round the factors of fp32 products to 10 bits of mantissa, or not: "fp32" means fp32.

    torch's default would let cuDNN do it.
    """
    torch.backends.cudnn.allow_tf32 = allowed
    torch.backends.cuda.matmul.allow_tf32 = allowed


def precision_on(spec: RunSpec, device: torch.device) -> str:
    """Return fp32, tf32 or bf16: what the run's precision means on a device.

    Raises:
        UserError: the device does not have it.
    """
    precision = resolved_precision(spec, device.type)
    gpu = device.type == "cuda"
    if precision == "tf32" and not gpu:
        raise UserError(f"{spec.run}: precision = 'tf32': needs a GPU; allowed on a CPU: auto, fp32, bf16")
    if precision == "bf16" and gpu and not torch.cuda.is_bf16_supported(including_emulation=False):
        if spec.precision == "bf16":
            raise UserError(f"{spec.run}: precision = 'bf16': this GPU does not have it; allowed: auto, fp32, tf32")
        return "fp32"
    return precision


def engine_on(engine: str, device: torch.device) -> str:
    """Return the engine, eager or compiled, that `engine` means on a device."""
    if engine == "auto":
        return "compiled" if device.type == "cuda" else "eager"
    return engine


def with_index(device: torch.device) -> torch.device:
    """Return a GPU with its number, and any other device as it is."""
    return torch.device("cuda", torch.cuda.current_device()) if device == torch.device("cuda") else device


def memory_of(device: torch.device) -> int:
    """Return the bytes of a GPU's memory, used or not; 0 for a CPU."""
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else 0


def device_name(device: torch.device) -> str:
    """Return what a GPU, or the processor, is called."""
    return torch.cuda.get_device_name() if device.type == "cuda" else processor_name()


def _keep_freed_memory() -> None:
    """Let glibc reuse freed activations instead of returning them to the kernel at once.

    Saves the page faults of every activation: 31 ms instead of 37 ms for a regularized step of the
    mini network (128 micro-batches of 4, one thread). Elsewhere than on Linux it does nothing.
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
