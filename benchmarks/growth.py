"""How does the cost of a step grow with the number of blocks, the width of the network, and the number of ranks?

`python benchmarks/growth.py` writes results/benchmarks/growth.{json,md}. Ranks are processes under torchrun; as many
as there are cores can help on a CPU.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import numpy as np
from common import digits, median_ratio, side_by_side, write_table
from safetensors.numpy import save_file

from whysgd.data.canonical import Dataset, Split, content_digest
from whysgd.files import read_json, write_json
from whysgd.study import registry
from whysgd.study.config import load_config
from whysgd.study.papers import scaled_spec
from whysgd.study.registry import make
from whysgd.study.spec import RunSpec
from whysgd.training.device import prepare_device
from whysgd.training.loop import Trainer

ROUNDS = 5
PENALTIES = {"none": None, "forward differences": make("penalty", "gradient_norm")}


def repeated(dataset: Dataset, times: int) -> Dataset:
    """The training images several times over."""
    images, labels = np.tile(dataset.train.images, (times, 1, 1, 1)), np.tile(dataset.train.labels, times)
    split = Split(images, labels)
    manifest = {
        **dataset.manifest, "train_images": len(labels), "sha256": content_digest(split, dataset.test)
    }  # fmt: skip
    return Dataset(split, dataset.test, manifest)


def spec_of(penalty: str) -> RunSpec:
    spec = scaled_spec(load_config(), "geiping2022", "fb-reg", 0)
    return spec.replace(penalty=PENALTIES[penalty], epochs=10**6)


def line(what: str, penalty: str, size: str, times: dict, name: str, base: str, work: float) -> dict:
    return {
        "grows": what, "penalty": penalty, "size": size, "ms a step": 1e3 * median(times[name]),
        "cost": median_ratio(times[name], times[base]), "arithmetic": work,
    }  # fmt: skip


def blocks(penalty: str) -> list[dict]:
    """One, two and four times the blocks."""
    works = {f"{32 * k} blocks of 16": Trainer([spec_of(penalty)], repeated(digits(), k)).step for k in (1, 2, 4)}
    times = side_by_side(works, ROUNDS)
    names = list(works)
    return [line("blocks", penalty, n, times, n, names[0], 2**i) for i, n in enumerate(names)]


def widths(penalty: str) -> list[dict]:
    """One, two and four times the channels: 4 and 16 times the arithmetic, but for the first convolution."""
    works = {}
    for width in (8, 16, 32):
        name = f"width {width}"
        registry.constants(registry.file_of("network", "resnet_mini"))["NETWORKS"][name] = {
            "block": "basic",
            "depths": (1, 1),
            "width": width,
        }
        works[name] = Trainer([spec_of(penalty).replace(model=name)], digits()).step
    times = side_by_side(works, ROUNDS)
    names = list(works)
    return [line("width", penalty, n, times, n, names[0], 4**i) for i, n in enumerate(names)]


def ranks(penalty: str) -> list[dict]:
    """One and two processes that share the blocks of a step (2,048 images)."""
    dataset = repeated(digits(), 4)
    spec = spec_of(penalty).replace(epochs=100, evaluations=1)
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "data")
        data.mkdir()
        for name, part in (("train", dataset.train), ("test", dataset.test)):
            save_file({"images": part.images, "labels": part.labels}, data / f"{name}.safetensors")
        write_json(data / "manifest.json", dataset.manifest)
        for round_ in range(3):
            for count in (1, 2):
                out = Path(folder, f"{round_}-{count}")
                launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(count), "-m"]
                command = [sys.executable, "-m", *launcher, "whysgd", "train", "--spec", json.dumps(spec.to_dict())]
                command += ["--data", str(data), "--out", str(out), "--device", "cpu"]
                environment = {**os.environ, "OMP_NUM_THREADS": "1"}
                subprocess.run(command, check=True, capture_output=True, env=environment)
                times.setdefault(f"{count} rank" + "s" * (count > 1), []).append(
                    read_json(out / "metrics.json")["seconds_per_step"]
                )
    return [line("ranks", penalty, n, times, n, "1 rank", 1 / (i + 1)) for i, n in enumerate(times)]


def main() -> None:
    prepare_device("cpu", 1)
    lines = [row for penalty in PENALTIES for part in (blocks, widths, ranks) for row in part(penalty)]
    heading = (
        "Mini network, digits, one thread in each process. `cost`: times the first line's; `arithmetic`: what it would"
        " be if only arithmetic counted."
    )
    write_table("growth", heading, lines)


if __name__ == "__main__":
    main()
