"""How good is the tail index of gradient noise, and what does it cost?

    python benchmarks/tail_index.py --data DIR             everything, with MNIST in canonical form; ten minutes
    python benchmarks/tail_index.py --parts cost memory    some of it

samples: bias and spread on independent samples of known index. intervals: how often the interval holds what it should
on noise whose entries depend on each other as those of mini-batches do. cost: one evaluation against two passes over
the same gradients, and against storing them. memory: of a process each. zeros: what black pixels do, with --data.
Writes tables to results/benchmarks.
"""

import argparse
import ctypes
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, median, stdev

import numpy as np
import torch
from common import OUT, median_ratio, side_by_side, write_table
from scipy.stats import levy_stable

from whysgd.data.augmentation import Normalizer
from whysgd.data.canonical import load_dataset
from whysgd.measures.alpha import alpha_estimator, alpha_estimator2, alpha_interval, largest_divisor
from whysgd.measures.catalog import QUANTITIES
from whysgd.measures.images import Images
from whysgd.measures.network import Network
from whysgd.measures.noise import noise_of
from whysgd.measures.tail_index import micro_batch_gradients, tail_index
from whysgd.models.build import build_model
from whysgd.training.device import device_name, prepare_device

ALPHAS = (0.5, 0.8, 1.0, 1.2, 1.5, 1.8, 2.0)
BATCH = 100
# Samples of one line, which are in memory together.
MOST = 2 * 10**7


@dataclass(frozen=True)
class Case:
    """A network on images of noise, with a black border of so many pixels, and how many mini-batches are taken."""

    network: str
    channels: int
    size: int
    border: int
    mini_batches: int

    def make(self) -> tuple[torch.nn.Module, Images]:
        generator = torch.Generator().manual_seed(0)
        count, size, border = self.mini_batches * BATCH, self.size, self.border
        pixels = torch.zeros(count, self.channels, size, size)
        inside = pixels[:, :, border : size - border, border : size - border]
        inside.copy_(torch.randn(inside.shape, generator=generator))
        labels = torch.randint(0, 10, (count,), generator=generator)
        return build_model(self.network, self.channels, 10, 0, size), Images(pixels, labels)


# A border of 4 leaves the 20×20 pixels that MNIST's digits fill.
CASES = (
    Case("fc_d2_w4", 1, 28, 0, 600), Case("fc_d2_w4", 1, 28, 4, 600), Case("fc_d4_w128", 1, 28, 0, 200),
    Case("fc_d4_w128", 1, 28, 4, 200), Case("fc_d10_w1024", 1, 28, 0, 12), Case("fc_d10_w1024", 1, 28, 4, 12),
    Case("alexnet_ch64", 3, 32, 0, 20),
)  # fmt: skip


def known(repeats: int, sizes: tuple[int, ...]) -> list[dict]:
    """Bias and spread of both estimators, and how good the interval of the first is, on independent samples."""
    lines = []
    for size in sizes:
        m, random = largest_divisor(size), np.random.default_rng(0)
        for alpha in ALPHAS:
            count = max(2, min(repeats, MOST // size))
            samples = [levy_stable.rvs(alpha, 0, size=size, random_state=random) for _ in range(count)]
            first = [alpha_interval(one) for one in samples]
            second = [alpha_estimator2(m, size // m // 2, one) for one in samples]
            values = [one.value for one in first]
            lines.append({
                "samples": f"{size}", "repeats": f"{count}", "α": f"{alpha}",
                "bias": fmean(values) - alpha, "spread": stdev(values),
                "standard error": fmean(one.std_error for one in first),
                "in interval [%]": 100 * fmean(one.low <= alpha <= one.high for one in first),
                "bias of the second": fmean(second) - alpha, "spread of the second": stdev(second),
            })  # fmt: skip
    return lines


def dependent(kind: str, mini_batches: int, parameters: int, random: np.random.Generator) -> np.ndarray:
    """Gradients (P, M): of every network the parameters have the same scales, of every draw the mini-batches do not."""
    shape = mini_batches, parameters
    fixed = np.random.default_rng(1)
    scales, directions = np.exp(2 * fixed.standard_normal(parameters)), fixed.standard_normal((3, parameters))
    if kind == "independent":
        return random.standard_normal(shape)
    if kind == "parameters of different size":
        return scales * random.standard_normal(shape)
    if kind == "and mini-batches":
        return scales * np.exp(0.5 * random.standard_normal((mini_batches, 1))) * random.standard_normal(shape)
    return random.standard_normal((mini_batches, 3)) @ directions + 0.3 * random.standard_normal(shape)


KINDS = ("independent", "parameters of different size", "and mini-batches", "along three directions")


def dependence(repeats: int, parameters: int = 1000) -> list[dict]:
    """How often the interval holds the mean over repeats, for normal noise of mini-batches that depend within."""
    lines = []
    for kind in KINDS:
        for mini_batches in (5, 20, 100, 300):
            random, found = np.random.default_rng(0), []
            for _ in range(repeats):
                stack = torch.from_numpy(dependent(kind, mini_batches, parameters, random))
                found.append(noise_of(lambda stack=stack: [stack], mini_batches, parameters).alpha)
            values = [one.value for one in found]
            mean = fmean(values)
            lines.append({
                "noise": kind, "mini-batches": f"{mini_batches}", "mean α": mean, "spread": stdev(values),
                "standard error": fmean(one.std_error for one in found),
                "mean in interval [%]": 100 * fmean(one.low <= mean <= one.high for one in found),
            })  # fmt: skip
    return lines


def zeros(folder: Path, networks: tuple[str, ...]) -> list[dict]:
    """At initialization, on inputs whose black pixels are 0 and on inputs that are normalized as in training."""
    dataset = load_dataset(folder)
    pixels, labels = torch.from_numpy(dataset.train.images), torch.from_numpy(dataset.train.labels)
    _, channels, size, _ = pixels.shape
    manifest = dataset.manifest
    ways = {"0 … 1": ([0.0] * channels, [1.0] * channels), "normalized": (manifest["mean"], manifest["std"])}
    lines = []
    for network in networks:
        for inputs, statistics in ways.items():
            for loss in ("cross_entropy", "linear_hinge"):
                images = Images(pixels, labels, Normalizer(*statistics, torch.float32, torch.device("cpu")), loss=loss)
                found = tail_index(build_model(network, channels, 10, 0, size), images, BATCH)
                lines.append({"network": network, "inputs": inputs, "loss": loss})
                for name in ("tail_index", "tail_index_active"):
                    low, high = found[name].interval
                    lines[-1][QUANTITIES[name].label] = f"{found[name].value:.3f} [{low:.3f}, {high:.3f}]"
                lines[-1]["inactive [%]"] = found["inactive_parameters"].value
    return lines


def plain_gradients(model: torch.nn.Module, images: Images):
    """The gradient (M,) of each mini-batch, as a training loop computes it."""
    for inputs, labels in images.batches(BATCH):
        model.zero_grad()
        torch.nn.functional.cross_entropy(model(inputs), labels).backward()
        yield [parameter.grad for parameter in model.parameters()]


def stored_tail_index(model: torch.nn.Module, images: Images) -> float:
    """As published: all P gradients in memory."""
    gradients = torch.stack([torch.cat([g.flatten() for g in each]) for each in plain_gradients(model, images)])
    gradients -= gradients.mean(0)
    return alpha_estimator(largest_divisor(gradients.numel()), gradients.flatten())


def passes(gradients: Callable) -> None:
    """Two passes over gradients that nothing is done with."""
    for _ in range(2):
        for each in gradients():
            del each


def costs(cases: list[Case], rounds: int) -> list[dict]:
    """Times of one evaluation, of two passes by a plain loop and by the measure's own engine, and of storing."""
    lines = []
    for case in cases:
        model, images = case.make()
        model.eval()
        network = Network(model)
        works = {
            "ours": lambda model=model, images=images: tail_index(model, images, BATCH),
            "plain": lambda model=model, images=images: passes(lambda: plain_gradients(model, images)),
            "engine": lambda network=network, images=images: passes(
                lambda: micro_batch_gradients(network, images, BATCH)
            ),
            "stored": lambda model=model, images=images: stored_tail_index(model, images),
        }
        times, found = side_by_side(works, rounds), tail_index(model, images, BATCH)
        lines.append({
            "network": case.network, "black border": f"{case.border} pixels", "mini-batches": f"{case.mini_batches}",
            "parameters": len(network.theta), "inactive [%]": found["inactive_parameters"].value,
            "ms a mini-batch": 1000 * median(times["ours"]) / case.mini_batches,
            "of two plain passes": median_ratio(times["ours"], times["plain"]),
            "of two own passes": median_ratio(times["ours"], times["engine"]),
            "of storing all": median_ratio(times["ours"], times["stored"]),
            "α": found["tail_index"].value, "α stored": stored_tail_index(model, images),
        })  # fmt: skip
        print(lines[-1], flush=True)
    return lines


def peak(case: Case, way: str) -> float:
    """Peak of this process' memory above what it has with the network and the images, in bytes."""
    works = {"streamed": lambda *one: tail_index(*one, BATCH), "stored": stored_tail_index}
    # Libraries start.
    works[way](*Case("fc_d2_w4", 1, 28, 2, 4).make())
    model, images = case.make()
    # What making them has freed goes back to the system, or it would be used again unseen; the peak is forgotten.
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS")
    works[way](model, images)
    return memory("VmHWM") - before


def memory(name: str) -> int:
    """Bytes, of a line of /proc/self/status."""
    return 1024 * int(re.search(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text())[1])


def memories(network: str, mini_batches: int) -> list[dict]:
    """Each way in a process of its own; storing with 6 and 12 mini-batches."""
    lines = []
    ways = ("streamed", 0, mini_batches), ("streamed", 4, mini_batches), ("stored", 0, 6), ("stored", 0, 12)
    for way, border, count in ways:
        words = ["--peak", way, network, str(border), str(count)]
        done = subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True, check=True)
        size, parameters = map(float, done.stdout.split())
        lines.append({
            "gradients": way, "black border": f"{border} pixels", "mini-batches": f"{count}",
            "peak [GiB]": size / 2**30, "copies of the parameters": size / 4 / parameters,
        })  # fmt: skip
        print(lines[-1], flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", default=["samples", "intervals", "cost", "memory", "zeros"])
    parser.add_argument("--data", type=Path, help="folder of MNIST in canonical form, for zeros")
    parser.add_argument("--repeats", type=int, default=200, help="of samples and of intervals")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--networks", nargs="+", help="of cost, and the first of memory (default: all; fc_d10_w1024)")
    parser.add_argument("--mini-batches", type=int, help="of cost (default: as many as take a second) and memory (600)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peak", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    device = prepare_device("cpu", 1)
    if options.peak:
        way, network, border, count = options.peak
        case = Case(network, 1, 28, int(border), int(count))
        print(peak(case, way), sum(p.numel() for p in case.make()[0].parameters()))
        return
    where = f"on {device_name(device)}, one thread"
    if "samples" in options.parts:
        lines = known(options.repeats, tuple(options.sizes))
        heading = "Independent symmetric α-stable samples; 95 % intervals; the second estimator is taken at the median."
        write_table("tail_index_samples", heading, lines, OUT)
    if "intervals" in options.parts:
        heading = f"Normal noise of 1,000 parameters, {options.repeats} repeats. 95 % intervals."
        write_table("tail_index_intervals", heading, dependence(options.repeats), OUT)
    if "cost" in options.parts:
        cases = [case for case in CASES if not options.networks or case.network in options.networks]
        if options.mini_batches:
            cases = [Case(**{**asdict(case), "mini_batches": options.mini_batches}) for case in cases]
        heading = (
            f"Mini-batches of {BATCH} images, fp32, {where}. `of …`: times as long as that; medians of"
            f" {options.rounds} rounds."
        )
        write_table("tail_index_cost", heading, costs(cases, options.rounds), OUT)
    if "memory" in options.parts:
        network = options.networks[0] if options.networks else "fc_d10_w1024"
        heading = f"{network}, mini-batches of {BATCH} images, fp32: peak above what the network and the images take."
        write_table("tail_index_memory", heading, memories(network, options.mini_batches or 600), OUT)

    if "zeros" in options.parts and options.data:
        lines = zeros(options.data, ("fc_d2_w4", "fc_d2_w128", "fc_d4_w128"))
        heading = f"{options.data.name}, mini-batches of {BATCH} images, at initialization; 95 % intervals in brackets."
        write_table("tail_index_zeros", heading, lines, OUT)


if __name__ == "__main__":
    main()
