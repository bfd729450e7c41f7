"""How far is each way of computing the penalty's product H_B v from the exact one, in each precision?

    python benchmarks/product_distance.py                                                     the mini scale's network
    python benchmarks/product_distance.py --scale midi --blocks 8 --steps 30 1000 --data DIR    another scale's

Early and late in the training of a row: that of the mini scale with the published penalty, elsewhere SGD, since full
batch takes too long on a CPU. Writes results/benchmarks/product_distance_<scale>.{json,md}.
"""

import argparse
from collections.abc import Iterable
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from common import OUT, digits, write_table
from torch.utils._python_dispatch import TorchDispatchMode

from whysgd.data.augmentation import Normalizer
from whysgd.data.canonical import Dataset, load_dataset
from whysgd.data.loader import DataLoader
from whysgd.study.config import load_config
from whysgd.study.papers import scaled_spec
from whysgd.study.registry import make
from whysgd.study.spec import RunSpec
from whysgd.training.device import allow_tf32, prepare_device
from whysgd.training.loop import Options, Trainer
from whysgd.training.micro_batches import MicroBatches
from whysgd.training.objective import Objective
from whysgd.training.penalties.gradient_norm import PRODUCTS

PRECISIONS = ("fp64", "fp32", "tf32", "bf16")
TRUTH = ("exact", "fp64")
DTYPES = {"fp64": torch.float64, "fp32": torch.float32, "tf32": torch.float32, "bf16": torch.float32}


def states(spec: RunSpec, dataset: Dataset, steps: list[int], device):
    """The trainer after each of these numbers of steps."""
    trainer = Trainer([spec], dataset, Options(device))
    for step in range(max(steps)):
        if step in steps:
            yield step, trainer
        trainer.step()
    yield max(steps), trainer  # A run has no step behind its last one.


def measure(
    spec: RunSpec, dataset: Dataset, steps: list[int], blocks: int, size: int, eps: float, device
) -> list[dict]:
    """Lines of the table: for each state and way."""
    ways = [(variant, precision) for variant in PRODUCTS for precision in PRECISIONS]
    lines = []
    for step, trainer in states(spec, dataset, steps, device):
        statistics = dict(spec.normalize) if spec.normalize else dataset.manifest
        normalize = Normalizer(statistics["mean"], statistics["std"], torch.float64, device)
        cut = spec.replace(micro_batch=size, batch="all", shuffle=False, drop_last=True)
        loader = DataLoader([cut], trainer.images, trainer.labels, device)
        chosen = [(normalize(x[0, 0]), y[0, 0]) for x, y in loader.groups(0, 0, blocks)]
        for line in product_distances(trainer.objective.model, trainer.batch.theta[0], chosen, ways, eps):
            lines.append({"step": f"{step}", **{k: v for k, v in line.items() if k != "blocks"}})
            print(lines[-1], flush=True)
    return lines


def product_distances(model, theta, blocks: Iterable, ways: list[tuple[str, str]], eps: float = 1e-2) -> list[dict]:
    """Distances of products H_B v, v = ½ g_B, from the exact one in float64.

    Each way computes its own g_B, and so its own v, as training does.

    Args:
        model: a network of `whysgd.models`; its own weights are not used.
        theta: (P,).
        blocks: images (n, C, H, W) normalized, in float64, and labels (n,), each a block.
        ways: pairs of a penalty's variant and a precision (fp64, fp32, tf32, bf16).
        eps: of the differences.

    Returns:
        for each way, with a its product, t the true one and e that of its variant in float64: `cosine`
        ⟨a, t⟩/(‖a‖‖t‖), `error` ‖a − t‖/‖t‖, `norm` ‖a‖/‖t‖ and `rounding` ‖a − e‖/‖e‖, each a mean over blocks, and
        the same of the products' mean over blocks as `mean_cosine` and so on.
    """
    every = list(dict.fromkeys([TRUTH, *((variant, "fp64") for variant, _ in ways), *ways]))
    sums: dict[tuple, torch.Tensor] = dict.fromkeys(every, 0)
    single: dict[tuple, list] = {way: [] for way in ways}
    for images, labels in blocks:
        products = {way: hessian_product(model, theta, images, labels, *way, eps) for way in every}
        for way in every:
            sums[way] = sums[way] + products[way]
        for way in ways:
            single[way].append(distance(products[way], products[TRUTH], products[way[0], "fp64"]))
    lines = []
    for way in ways:
        count = len(single[way])
        line = {"variant": way[0], "precision": way[1], "blocks": count}
        for name in ("cosine", "error", "norm", "rounding"):
            line[name] = sum(d[name] for d in single[way]) / count
        together = distance(sums[way] / count, sums[TRUTH] / count, sums[way[0], "fp64"] / count)
        lines.append(line | {f"mean_{name}": value for name, value in together.items()})
    return lines


def distance(product: torch.Tensor, true: torch.Tensor, unrounded: torch.Tensor) -> dict[str, float]:
    """Cosine, relative error and relative norm of a product (P,) against the true one, and its rounding."""
    a, t = product.norm(), true.norm()
    return {
        "cosine": (product @ true / (a * t)).item(),
        "error": ((product - true).norm() / t).item(),
        "norm": (a / t).item(),
        "rounding": ((product - unrounded).norm() / unrounded.norm()).item(),
    }


def hessian_product(model, theta, images, labels, variant: str, precision: str, eps: float) -> torch.Tensor:
    """H_B v of one block with v = ½ g_B, as a step of that penalty and precision computes it, in float64 (P,)."""
    dtype, settings = DTYPES[precision], make("penalty", "gradient_norm", variant=variant)
    objective = Objective(model, torch.bfloat16 if precision == "bf16" else None)
    at = theta.to(dtype)
    with tf32(at.device) if precision == "tf32" else nullcontext():
        micro_batch = MicroBatches(objective, Objective.gradients, at[None], images.to(dtype)[None], labels[None])
        g = micro_batch.attached_gradient.detach() if settings.exact else micro_batch.gradient
        product = PRODUCTS[variant](micro_batch, settings.block_strength * g, eps)
    return product[0].detach().double()


@contextmanager
def tf32(device: torch.device):
    """TF32 products: those of the GPU, or on a CPU the factors rounded to TF32 (10 bits of mantissa)."""
    if device.type == "cuda":
        allow_tf32(True)
        try:
            yield
        finally:
            allow_tf32(False)
    else:
        with RoundedFactors():
            yield


class RoundedFactors(TorchDispatchMode):
    """Rounds the factors of every fp32 convolution and matrix product to TF32; sums stay fp32, as on a GPU."""

    PRODUCTS = ("convolution", "convolution_backward", "mm", "addmm", "bmm", "baddbmm")

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        if operation._schema.name.removeprefix("aten::") in self.PRODUCTS:
            args = [round_to_tf32(a) if _is_fp32(a) else a for a in args]
        return operation(*args, **(kwargs or {}))


def _is_fp32(argument) -> bool:
    return isinstance(argument, torch.Tensor) and argument.dtype == torch.float32


def round_to_tf32(x: torch.Tensor) -> torch.Tensor:
    """fp32 rounded to 10 bits of mantissa, to the nearest, ties to even; the same shape and type."""
    bits = x.contiguous().view(torch.int32)
    rounded = (bits + 0x0FFF + ((bits >> 13) & 1)) & ~0x1FFF
    return rounded.view(torch.float32).view_as(x)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", default="mini")
    parser.add_argument("--blocks", type=int, default=32)
    parser.add_argument("--size", type=int, default=None, help="images of a block (default: the row's)")
    parser.add_argument("--steps", type=int, nargs="+", default=[30, 300])
    parser.add_argument("--eps", type=float, default=1e-2, help="of the differences")
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
    lines = measure(spec, dataset, options.steps, options.blocks, size, options.eps, device)
    heading = (
        f"{dataset.manifest['label']}, {spec.model}, trained by {text}, for so many steps; {options.blocks} blocks of"
        f" {size}, eps {options.eps:g}. Columns without `mean`: averaged over blocks; with it: of the mean over blocks."
    )
    own = "" if options.eps == parser.get_default("eps") else f"_eps{options.eps:g}"
    write_table(f"product_distance_{options.scale}{own}", heading, lines, OUT)


if __name__ == "__main__":
    main()
