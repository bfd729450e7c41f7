"""How far is each way of computing the penalty's product H_B v from the exact one, in each precision?

    python benchmarks/product_distance.py                                                     the mini scale's network
    python benchmarks/product_distance.py --scale midi --blocks 8 --steps 30 1000 --data DIR    another scale's

Early and late in the training of a row: that of the mini scale with the published penalty, elsewhere SGD, since full
batch takes too long on a CPU. Writes results/benchmarks/product_distance_<scale>.{json,md}.
"""

import argparse
from pathlib import Path

import torch
from common import OUT, digits, write_table

from whysgd.data.augmentation import Normalizer
from whysgd.data.canonical import Dataset, load_dataset
from whysgd.data.loader import DataLoader
from whysgd.measures.product_distance import product_distances
from whysgd.study.config import load_config
from whysgd.study.papers import scaled_spec
from whysgd.study.registry import make
from whysgd.study.spec import RunSpec
from whysgd.training.device import prepare_device
from whysgd.training.loop import Options, Trainer

VARIANTS = ("forward-differences", "central-differences", "exact")
PRECISIONS = ("fp64", "fp32", "tf32", "bf16")


def states(spec: RunSpec, dataset: Dataset, steps: list[int], device):
    """The trainer after each of these numbers of steps."""
    trainer = Trainer([spec], dataset, Options(device))
    for step in range(max(steps) + 1):
        if step in steps:
            yield step, trainer
        trainer.step()


def measure(spec: RunSpec, dataset: Dataset, steps: list[int], blocks: int, size: int, device) -> list[dict]:
    """Lines of the table: for each state and way."""
    ways = [(variant, precision) for variant in VARIANTS for precision in PRECISIONS]
    lines = []
    for step, trainer in states(spec, dataset, steps, device):
        statistics = dict(spec.normalize) if spec.normalize else dataset.manifest
        normalize = Normalizer(statistics["mean"], statistics["std"], torch.float64, device)
        cut = spec.replace(micro_batch=size, batch="all", shuffle=False, drop_last=True)
        loader = DataLoader([cut], trainer.images, trainer.labels, device)
        chosen = [(normalize(x[0, 0]), y[0, 0]) for x, y in loader.groups(0, 0, blocks)]
        for line in product_distances(trainer.objective.model, trainer.batch.theta[0], chosen, ways):
            lines.append({"step": f"{step}", **{k: v for k, v in line.items() if k != "blocks"}})
            print(lines[-1], flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", default="mini")
    parser.add_argument("--blocks", type=int, default=32)
    parser.add_argument("--size", type=int, default=None, help="images of a block (default: the row's)")
    parser.add_argument("--steps", type=int, nargs="+", default=[30, 300])
    parser.add_argument("--data", type=Path, help="folder of the data set in canonical form")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    device = prepare_device("auto", options.threads)
    config = load_config(settings={"scale": options.scale})
    if options.scale == "mini":
        dataset, spec, text = digits(), scaled_spec(config, "geiping2022", "fb-reg", 0), "full batch, penalty"
    else:
        dataset = load_dataset(options.data)
        sgd = scaled_spec(config, "geiping2022", "sgd", 0)
        spec = sgd.replace(epochs=10**6, schedule=make("schedule", "constant", unit="epoch", warmup=0))
        text = f"SGD at learning rate {sgd.lr:g}"
    size = options.size or spec.micro_batch
    lines = measure(spec, dataset, options.steps, options.blocks, size, device)
    heading = (
        f"{dataset.manifest['label']}, {spec.model}, trained by {text}, for so many steps; {options.blocks} blocks of"
        f" {size}. Columns without `mean`: averaged over blocks; with it: of the mean over blocks."
    )
    write_table(f"product_distance_{options.scale}", heading, lines, OUT)


if __name__ == "__main__":
    main()
