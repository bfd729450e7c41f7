"""What this machine is, found out without torch: processor, GPUs, and what else decides the last bits of a number."""

import platform
import re
import subprocess
from pathlib import Path

from whysgd.study.validation import ROOT

DRIVER = Path("/proc/driver/nvidia/gpus")


def processor_name() -> str:
    """Return what the processor is called."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def gpu_names(driver: Path = DRIVER) -> list[str]:
    """Return what NVIDIA's driver calls this machine's GPUs, as torch does, on Linux; elsewhere none are found."""
    names = []
    for file in sorted(driver.glob("*/information")):
        lines = file.read_text().splitlines()
        names += [line.split(":", 1)[1].strip() for line in lines if line.startswith("Model:")]
    return names


def device_here(device: str = "auto") -> str:
    """Return the device that a job with this setting (auto, cpu, cuda) would use here."""
    gpus = gpu_names() if device != "cpu" else []
    return gpus[0] if gpus else processor_name()


def machine_facts() -> dict[str, str | None]:
    """Return what decides the last bits of a number computed here, beside threads and versions of packages.

    Returns:
        processor, its model; instruction_set, what torch's kernels use of it; blas, torch's library of matrix products
        and its version; commit, that of this code, with `-dirty` where files of it were changed, None without git.
    """
    import torch

    config = torch.__config__.show()
    blas = [match[1] for word in (r"BLAS_INFO=(\w+)", r"Math Kernel Library Version ([\d.]+)")
            if (match := re.search(word, config))]  # fmt: skip
    return {
        "processor": processor_name(),
        "instruction_set": torch.backends.cpu.get_cpu_capability(),
        "blas": " ".join(blas),
        "commit": git_commit(),
    }


def git_commit(root: Path = ROOT) -> str | None:
    """Return the commit of a repository, with `-dirty` where tracked files differ from it; None where there is none."""
    place = ["--no-optional-locks", f"--git-dir={root}/.git", f"--work-tree={root}"]
    asked = ["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(["git", *place, *asked], capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() or None
