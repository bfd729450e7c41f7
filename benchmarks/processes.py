"""One process with two threads, or two processes with one thread each? And when a neighbour takes a core?

Both ways make the same number of steps of the same jobs; the ratio is of images per second in all. A neighbour is a
process that computes without end. `python benchmarks/processes.py` writes results/benchmarks/processes.{json,md}.
"""

import argparse
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from statistics import median

import numpy as np
from common import digits, seconds, write_table

from whysgd.config import load_config
from whysgd.data.canonical import Dataset, Split
from whysgd.papers import scaled_spec
from whysgd.spec import RunSpec
from whysgd.training.device import prepare_device
from whysgd.training.trainer import Trainer

# Job, images of a step, steps.
JOBS = {"mini network, full batch with penalty": (512, 60), "ResNet-18 at half width, SGD": (128, 6)}
ROUNDS = 3


def spec_and_images(job: str) -> tuple[RunSpec, Dataset]:
    if job.startswith("mini"):
        return scaled_spec(load_config(), "geiping2022", "fb-reg", 0), digits()
    random = np.random.default_rng(0)
    split = Split(random.integers(0, 256, (1280, 3, 32, 32), dtype=np.uint8), random.integers(0, 10, 1280))
    dataset = Dataset(split, split, {"classes": list("0123456789"), "mean": [0.5] * 3, "std": [0.25] * 3})
    spec = scaled_spec(load_config(settings={"scale": "midi"}), "geiping2022", "sgd", 0)
    return replace(spec, normalize=None), dataset


def work(job: str, threads: int) -> None:
    """Make the job's steps when told to; prints their seconds."""
    prepare_device("cpu", threads)
    trainer, steps = Trainer(*spec_and_images(job)), JOBS[job][1]
    trainer.step()
    print("ready", flush=True)
    sys.stdin.readline()
    print(seconds(lambda: [trainer.step() for _ in range(steps)]), flush=True)


def rate(job: str, threads: int, processes: int) -> float:
    """Images per second of all processes together."""
    command = [sys.executable, __file__, "--work", job, "--threads", str(threads)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    workers = [subprocess.Popen(command, **pipes) for _ in range(processes)]
    for worker in workers:
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    images, steps = JOBS[job]
    longest = max(float(worker.communicate()[0]) for worker in workers)
    return processes * images * steps / longest


@contextmanager
def neighbour(wanted: bool):
    """A process that computes without end."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if wanted else None
    try:
        yield
    finally:
        if process:
            process.kill()
            process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", choices=JOBS, help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.work, options.threads)
        return
    lines = []
    for job in JOBS:
        for busy in (False, True):
            with neighbour(busy):
                pairs = [(rate(job, 2, 1), rate(job, 1, 2)) for _ in range(ROUNDS)]
            one, two = (median(column) for column in zip(*pairs, strict=True))
            lines.append({
                "job": job, "neighbour": "busy" if busy else "none", "1 process, 2 threads [images/s]": one,
                "2 processes, 1 thread [images/s]": two, "times faster": median(b / a for a, b in pairs),
            })  # fmt: skip
    write_table("processes", "Two cores; images per second of all processes together.", lines)


if __name__ == "__main__":
    main()
