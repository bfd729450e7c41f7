"""Several seeds of a small network in lockstep, against one after another, as a ratio measured in one run.

    python benchmarks/stacked.py [--steps 200] [--rounds 5] [--seeds 3]

Peers: the plain loop, which differentiates by autograd, one run after another; and the lockstep of one run, which has
the chain rule written out, but no company.
"""

import argparse

import numpy as np
import torch
from common import OUT, median_ratio, side_by_side, write_table

from whysgd.data.canonical import Dataset, Split
from whysgd.study.registry import make
from whysgd.study.spec import RunSpec
from whysgd.training.stack import Stack
from whysgd.training.trainer import Trainer

NETWORKS = ("fc_d2_w4", "fc_d10_w4", "fc_d4_w16", "fc_d4_w64", "fc_d10_w64", "fc_d4_w256")


def images(count: int = 2000) -> Dataset:
    """Noise in the form of MNIST: the time of a step does not depend on what is to be seen."""
    random = np.random.default_rng(0)
    parts = [Split(random.integers(0, 256, (n, 1, 28, 28), dtype=np.uint8), random.integers(0, 10, n))
             for n in (count, 100)]  # fmt: skip
    manifest = {"classes": list("0123456789"), "mean": [0.5], "std": [0.3]}
    return Dataset(*parts, manifest)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    parser.add_argument("--out", type=type(OUT), default=OUT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    data, lines = images(), []
    for network in options.networks:
        spec = RunSpec(
            paper="simsekli2019", run="benchmark", scale="benchmark", seed=0, dataset="noise", model=network,
            macro_batch=100, block=100, epochs=None, steps=10**6, lr=0.1, schedule=make("schedule", "constant", unit="run", warmup=0),
        )  # fmt: skip
        specs = [spec.replace(seed=seed) for seed in range(options.seeds)]
        plain = [Trainer(one, data) for one in specs]
        alone = [Stack([Trainer(one, data)]) for one in specs]
        together = Stack([Trainer(one, data) for one in specs])
        works = {
            "plain": lambda runs=plain: [run.step() for run in runs for _ in range(options.steps)],
            "alone": lambda runs=alone: [run.step() for run in runs for _ in range(options.steps)],
            "together": lambda run=together: [run.step() for _ in range(options.steps)],
        }
        times = side_by_side(works, options.rounds)
        lines.append(
            {
                "network": network,
                "parameters": together.theta.shape[1],
                "plain loop, ms a step of all": 1000 * float(np.median(times["plain"])) / options.steps,
                "in lockstep, ms": 1000 * float(np.median(times["together"])) / options.steps,
                "plain / lockstep": median_ratio(times["plain"], times["together"]),
                "alone / lockstep": median_ratio(times["alone"], times["together"]),
            }
        )
    heading = (
        f"{options.seeds} seeds of a fully connected network, batches of 100 images of 28×28, on one thread; medians of"
        f" {options.rounds} rounds of {options.steps} steps."
    )
    write_table("stacked", heading, lines, options.out)


if __name__ == "__main__":
    main()
