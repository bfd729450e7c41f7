"""What do bf16, the layout of images and a compiler bring on a CPU, and does the compiler's start-up pay?

One thread. `python benchmarks/options_cpu.py` writes results/benchmarks/options_cpu.{json,md}. The compiler takes
minutes for the larger network.
"""

import math
import time
from statistics import median

import numpy as np
import torch
from common import digits, median_ratio, side_by_side, write_table

from whysgd.data.canonical import Dataset, Split
from whysgd.study.config import load_config
from whysgd.study.papers import scaled_spec
from whysgd.study.registry import make
from whysgd.study.spec import RunSpec
from whysgd.training import objective
from whysgd.training.device import prepare_device
from whysgd.training.loop import Options, Trainer

ROUNDS = 5


def half_width() -> tuple[RunSpec, Dataset]:
    """Return SGD on ResNet-18 at half width, and random images of CIFAR-10's size for it."""
    random = np.random.default_rng(0)
    split = Split(random.integers(0, 256, (1280, 3, 32, 32), dtype=np.uint8), random.integers(0, 10, 1280))
    dataset = Dataset(split, split, {"classes": list("0123456789"), "mean": [0.5] * 3, "std": [0.25] * 3})
    spec = scaled_spec(load_config(settings={"scale": "midi"}), "geiping2022", "sgd", 0)
    return spec.replace(normalize=None), dataset


def in_torchs_layout(trainer: Trainer):
    """A step with images laid out as torch does by itself."""

    def step():
        objective.CHANNELS_LAST = torch.contiguous_format
        trainer.step()
        objective.CHANNELS_LAST = torch.channels_last

    return step


def lines_of(job: str, make, planned: int) -> list[dict]:
    """Lines of one job: `make(precision, engine)` gives its trainer, `planned` is how many steps its run has."""
    options = {
        "fp32": make("fp32", "eager").step,
        "fp32, torch's layout": in_torchs_layout(make("fp32", "eager")),
        "bf16": make("bf16", "eager").step,
    }
    compiled, start = make("fp32", "compiled"), time.perf_counter()
    compiled.step()
    startup = time.perf_counter() - start
    options["fp32, compiled"] = compiled.step
    times = side_by_side(options, ROUNDS)
    lines = []
    for name in options:
        gain = median(times["fp32"]) - median(times[name])
        pays = math.ceil(startup / gain) if "compiled" in name and gain > 0 else float("nan")
        lines.append({
            "job": job, "option": name, "ms a step": 1e3 * median(times[name]),
            "times faster": median_ratio(times["fp32"], times[name]),
            "start-up [s]": startup if "compiled" in name else float("nan"), "pays after [steps]": pays,
            "steps of the run": planned,
        })  # fmt: skip
    return lines


def main() -> None:
    prepare_device("cpu", 1)
    dataset, spec = digits(), scaled_spec(load_config(), "geiping2022", "fb-reg", 0)
    exact = spec.replace(penalty=make("penalty", "gradient_norm", variant="exact"))

    def mini(precision, engine):
        return Trainer([exact.replace(precision=precision)], dataset, Options(engine=engine))

    half, images = half_width()

    def large(precision, engine):
        return Trainer([half.replace(precision=precision)], images, Options(engine=engine))

    lines = lines_of("mini network, full batch, exact penalty", mini, spec.epochs)
    lines += lines_of("ResNet-18 at half width, SGD", large, 30 * 390)
    heading = "One thread. Micro-batches that share a pass, as of the mini network, have a layout of their own."
    write_table("options_cpu", heading, lines)


if __name__ == "__main__":
    main()
