"""What does a measure cost, in epochs of training?

    python benchmarks/measures.py                                  ResNet-18 at full width on 128 images, on a CPU
    python benchmarks/measures.py --images 50000 --data DIR         all of CIFAR-10, on a GPU

An epoch is a forward and a backward pass over the images in blocks of 128, as training makes them. On fewer than 50,000
images, what has a size of its own gets the same share of it: steps of the ascent, images whose Fisher trace is taken.
Writes results/benchmarks/measures.{json,md}.
"""

import argparse
from pathlib import Path
from statistics import median

import numpy as np
import torch
from common import OUT, seconds, write_table

from whysgd.data.canonical import load_dataset
from whysgd.measures.accuracy_gap import accuracy_gap
from whysgd.measures.directions import filter_normalized
from whysgd.measures.fisher import fisher
from whysgd.measures.flatness import flatness
from whysgd.measures.gradient_noise import gradient_noise
from whysgd.measures.hessian import hessian
from whysgd.measures.images import Images
from whysgd.measures.keskar import keskar
from whysgd.measures.landscape import grid, landscape
from whysgd.measures.run import batch_size
from whysgd.models.build import build_model
from whysgd.training.device import device_name, prepare_device

WHOLE, BLOCK = 50_000, 128


def epoch(model, images: Images) -> None:
    """Forward and backward over all images, in blocks, in training mode; the network's statistics move."""
    model.train()
    for inputs, labels in images.batches(BLOCK):
        model.zero_grad()
        torch.nn.functional.cross_entropy(model(inputs), labels).backward()


def works(model, images: Images) -> dict:
    """The measures with the options of the paper scale, as calls without arguments."""
    share = len(images) / WHOLE
    line = [filter_normalized(model, 0)]
    return {
        "accuracies, of training images alone": lambda: accuracy_gap(model, images, images.first(1)),
        "Keskar sharpness, 2 ascents of 1000 steps": lambda: keskar(model, images, steps=max(1, round(1000 * share))),
        "profile of 51 points": lambda: landscape(model, images, grid("line", 51), line),
        "flatness along 5 directions": lambda: flatness(model, images),
        "Hessian, 10 products and 8 probes": lambda: hessian(model, images),
        "gradient noise": lambda: gradient_noise(model, images, min(BLOCK, len(images) // 2)),
        "Fisher trace of 1000 images": lambda: fisher(model, images, first=max(1, round(1000 * share))),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--data", type=Path, help="folder of a data set in canonical form (default: noise)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=2, help="timed before each measure, and as many after it")
    options = parser.parse_args()
    device = prepare_device("auto", options.threads)
    random = np.random.default_rng(0)
    pixels, labels = random.standard_normal((options.images, 3, 32, 32)), random.integers(0, 10, options.images)
    if options.data:
        train = load_dataset(options.data).train
        pixels, labels = (train.images[: options.images] / 255 - 0.5) * 4, train.labels[: options.images]
    model = build_model(options.model, 3, 10, 0).to(device)
    batch = batch_size(model, pixels.shape[1:], device)
    inputs = torch.from_numpy(pixels).to(device, torch.float32)
    images = Images(inputs, torch.from_numpy(labels).to(device), batch=batch)
    lines = []
    seconds(lambda: epoch(model, images))
    for name, work in works(model, images).items():
        around = [seconds(lambda: epoch(model, images)) for _ in range(options.epochs)]
        taken = seconds(work)
        around += [seconds(lambda: epoch(model, images)) for _ in range(options.epochs)]
        lines.append({"measure": name, "seconds": taken, "epochs of training": taken / median(around)})
        print(lines[-1], flush=True)
    heading = (
        f"{options.model}, {len(images)} images ({'noise' if options.data is None else options.data.name}), fp32, on"
        f" {device_name(device)}, {options.threads} thread{'s' * (options.threads > 1)}. An epoch is a pass over"
        f" these images; on fewer than {WHOLE:,}, steps of the ascent and images of the Fisher trace are fewer in"
        " proportion."
    )
    write_table("measures", heading, lines, OUT)


if __name__ == "__main__":
    main()
