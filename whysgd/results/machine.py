"""What this machine's processor and GPUs are called, found out without torch."""

import platform
from pathlib import Path

DRIVER = Path("/proc/driver/nvidia/gpus")


def processor_name() -> str:
    """What the processor is called."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def gpu_names(driver: Path = DRIVER) -> list[str]:
    """What NVIDIA's driver calls this machine's GPUs, as torch does, on Linux; elsewhere none are found."""
    names = []
    for file in sorted(driver.glob("*/information")):
        lines = file.read_text().splitlines()
        names += [line.split(":", 1)[1].strip() for line in lines if line.startswith("Model:")]
    return names


def device_here(device: str = "auto") -> str:
    """The device that a job with this setting (auto, cpu, cuda) would use here."""
    gpus = gpu_names() if device != "cpu" else []
    return gpus[0] if gpus else processor_name()
