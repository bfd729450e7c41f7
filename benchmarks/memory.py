"""How much memory does a regularized step with ResNet-152 and micro-batches of 128 take?

Each case in a process of its own, one micro-batch: peak of the process on a CPU (minutes each), of torch's allocations
on a GPU. `python benchmarks/memory.py` writes results/benchmarks/memory.{json,md}.
"""

import argparse
import resource
import subprocess
import sys

import torch
from common import seconds, write_table

from whysgd.models.build import build_model
from whysgd.study.registry import make
from whysgd.training.device import allow_tf32, prepare_device
from whysgd.training.engine import Engine, Step
from whysgd.training.objective import Objective
from whysgd.training.penalties import penalty_of

CASES = {"none": ("fp32", "bf16"), "forward-differences": ("fp32",), "exact": ("fp32", "bf16")}


def measure(network: str, block: int, variant: str, precision: str, device: torch.device) -> tuple[float, float]:
    """Return peak GiB and seconds of one micro-batch."""
    penalty = None if variant == "none" else make("penalty", "gradient_norm", variant=variant)
    objective = Objective(build_model(network, 3, 10, 0).to(device), torch.bfloat16 if precision == "bf16" else None)
    theta = objective.parameters.vector({n: p.detach() for n, p in objective.model.named_parameters()})
    engine = Engine(objective, penalty and penalty_of(penalty))
    images = torch.randn(1, 1, block, 3, 32, 32, device=device)
    labels = torch.zeros(1, 1, block, dtype=torch.int64, device=device)
    step = Step(theta[None], lr=0.1)
    allow_tf32(precision == "tf32")
    if device.type == "cuda":
        # Libraries start and choose their algorithms.
        engine.sums(step, [(images, labels)])
        torch.cuda.reset_peak_memory_stats()
    taken = seconds(lambda: engine.sums(step, [(images, labels)]))
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30, taken
    # Kilobytes on Linux.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", default="resnet152")
    parser.add_argument("--block", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--case", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    device = prepare_device("auto", options.threads)
    if options.case:
        print(*measure(options.network, options.block, *options.case, device))
        return
    lines = []
    for variant, precisions in CASES.items():
        for precision in precisions:
            command = [sys.executable, __file__, "--network", options.network, "--block", str(options.block)]
            command += ["--threads", str(options.threads), "--case", variant, precision]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            # Killed for want of memory, say: then there is no number.
            print(done.stderr, end="", file=sys.stderr)
            peak, taken = map(float, done.stdout.split()) if done.returncode == 0 else (float("nan"),) * 2
            lines.append({"penalty": variant, "precision": precision, "peak [GiB]": peak, "seconds": taken})
    where = torch.cuda.get_device_name() if device.type == "cuda" else "a CPU, the whole process"
    write_table("memory", f"{options.network}, one block of {options.block} images of 32×32, on {where}.", lines)


if __name__ == "__main__":
    main()
