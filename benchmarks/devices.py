"""How fast is this machine's device? Times steps of a few networks and fits the five numbers of config/devices.json.

    python benchmarks/devices.py              the default device: a minute on a CPU, some more where steps are compiled
    python benchmarks/devices.py --device cpu --threads 4

On a CPU with one thread the seconds are the processor's, so that a busy machine changes them little.
"""

import argparse
import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import torch
from scipy.optimize import nnls

from whysgd.data.canonical import Dataset, Split
from whysgd.files import read_json, write_text
from whysgd.study.cost import DEVICES, FORWARD, Device
from whysgd.study.networks import network
from whysgd.study.registry import make
from whysgd.study.spec import RunSpec
from whysgd.training.device import device_name, prepare_device
from whysgd.training.loop import Options, Trainer

CLASSES = 10
# Network, channels, size, images of a micro-batch, micro-batches of a step: small networks with one micro-batch and
# with many, and large ones.
SHAPES = (
    ("fc_d2_w32", 1, 8, 4, 1), ("fc_d2_w32", 1, 8, 4, 40), ("fc_d2_w4", 1, 28, 100, 1), ("fc_d8_w64", 1, 28, 100, 1),
    ("conv1", 1, 28, 100, 1), ("conv1", 1, 28, 100, 128), ("conv2", 1, 8, 12, 1), ("conv2", 1, 8, 12, 42),
    ("conv2", 3, 32, 100, 1), ("conv2", 3, 32, 100, 128), ("resnet_mini", 1, 8, 16, 1), ("resnet_mini", 1, 8, 16, 32),
    ("alexnet_ch64", 3, 32, 100, 1), ("vgg11", 3, 32, 100, 1), ("resnet18", 3, 32, 128, 1),
)  # fmt: skip


def step_seconds(shape: tuple, device: torch.device, least: float = 0.5) -> float:
    """Return what a plain step takes, from steps of random images that take `least` seconds together."""
    model, channels, size, micro_batch, micro_batches = shape
    images, random = micro_batch * micro_batches, np.random.default_rng(0)
    splits = [
        Split(random.integers(0, 256, (n, channels, size, size), dtype=np.uint8), random.integers(0, CLASSES, n))
        for n in (max(2, images), 1)
    ]
    classes = list(map(str, range(CLASSES)))
    dataset = Dataset(*splits, {"classes": classes, "mean": [0.5] * channels, "std": [0.25] * channels})
    spec = RunSpec(
        paper="bench", run="bench", scale="bench", seed=0, dataset="noise", model=model, batch=images,
        micro_batch=micro_batch, epochs=None, steps=1_000_000, lr=1e-6,
        schedule=make("schedule", "constant", unit="step", warmup=0),
        momentum=0.9, evaluations=1,
    )  # fmt: skip
    trainer = Trainer([spec], dataset, Options(device))
    clock = time.perf_counter if device.type == "cuda" or torch.get_num_threads() > 1 else time.process_time

    def seconds(steps: int) -> float:
        begin = clock()
        for _ in range(steps):
            trainer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return clock() - begin

    seconds(2)  # What is compiled, or allocated, once.
    steps = max(1, round(least / 3 / max(seconds(1), 1e-6)))
    return min(seconds(steps) for _ in range(3)) / steps


def fitted(shapes: Sequence[tuple], seconds: Sequence[float]) -> dict[str, float]:
    """Fit the five numbers of a device, none negative, to what steps took.

    It minimizes Σ (p − t)²/(p t) of predicted and measured seconds, which is about Σ log²(p/t), by least squares with
    weights that are updated.
    """
    rows, measured = [], np.array(seconds)
    for model, channels, size, micro_batch, micro_batches in shapes:
        net, images = network(model, channels, size, CLASSES), micro_batch * micro_batches
        overhead = np.array([1, net.operations, net.operations * micro_batches]) / 1e6
        rows.append([*overhead, images * net.flops / FORWARD / 1e9, images * net.saved / 1e9])
    rows, predicted = np.array(rows), measured
    for _ in range(100):
        weights = 1 / np.sqrt(measured * predicted)
        numbers, _ = nnls(rows * weights[:, None], measured * weights)
        predicted = rows @ numbers
    *overheads, flops, saved = (float(number) for number in numbers)
    values = [*overheads, 1 / max(flops, 1e-9), 1 / max(saved, 1e-9)]
    names = ("step_us", "operation_us", "micro_batch_us", "gflops", "gbytes")
    return {name: float(f"{value:.3g}") for name, value in zip(names, values, strict=True)}


def write_device(device: Device) -> None:
    """Put a device in the place of the one with its name, or behind the others."""
    devices = {entry["name"]: entry for entry in read_json(DEVICES)} | {device.name: device._asdict()}
    write_text(DEVICES, "[\n  " + ",\n  ".join(map(json.dumps, devices.values())) + "\n]\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    device = prepare_device(options.device, options.threads)
    seconds = [step_seconds(shape, device) for shape in SHAPES]
    for shape, one in zip(SHAPES, seconds, strict=True):
        print(*shape, f"{1000 * one:.3g} ms", flush=True)
    kind, version = "gpu" if device.type == "cuda" else "cpu", torch.__version__.split("+")[0]
    about = (device_name(device), kind, options.threads, version, f"{datetime.now(UTC):%Y-%m-%d}")
    write_device(Device(*about, **fitted(SHAPES, seconds)))
    print(DEVICES.read_text())
