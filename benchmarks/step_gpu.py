"""What does a step cost on a GPU, against a plain eager fp32 loop, and against the arithmetic it has to do?

    python benchmarks/step_gpu.py                    everything, in order of interest; each line is written as it comes
    python benchmarks/step_gpu.py --networks resnet18 --seconds 300
    python benchmarks/step_gpu.py --quick --device cpu    small sizes, to see that it works

50,000 images of 32×32 (random: time does not depend on them). Arithmetic is counted from the network; the peak is that
of a large bf16 matrix product, measured first. Writes results/benchmarks/step_gpu.{json,md}.
"""

import argparse
import gc
import time
from statistics import median

import numpy as np
import torch
from common import seconds, write_table
from steps import plain_step
from torch.utils.flop_counter import FlopCounterMode

from whysgd.data.canonical import Dataset, Split
from whysgd.models.build import build_model
from whysgd.study.registry import make
from whysgd.study.spec import Augmentation, RunSpec
from whysgd.training.device import allow_tf32, prepare_device
from whysgd.training.loop import Options, Trainer
from whysgd.training.objective import Objective

DIFFERENCES, EXACT = make("penalty", "gradient_norm"), make("penalty", "gradient_norm", variant="exact")
# What is timed: macro-batch, block, penalty, precision, and passes over the data that its arithmetic stands for
# (the exact product: forward and backward of forward and backward).
CASES = {
    "SGD epoch": (128, 128, None, "bf16", 1),
    "full batch": ("all", 128, None, "bf16", 1),
    "penalty, differences": ("all", 128, DIFFERENCES, "tf32", 2),
    "penalty, exact": ("all", 128, EXACT, "bf16", 3),
    "penalty, differences, micro-batches of 32": ("all", 32, DIFFERENCES, "tf32", 2),
    "penalty, exact, micro-batches of 32": ("all", 32, EXACT, "bf16", 3),
}
NETWORKS = (
    "resnet18", "resnet18_half", "resnet50", "densenet121", "resnet152", "vgg16_bn_small", "vgg11", "resnet18_conv"
)  # fmt: skip
# For the first network: the other engine, and several micro-batches in a pass.
VARIATIONS = {
    "full batch": [("eager", None), ("compiled", 4)],
    "penalty, differences": [("eager", None)],
    "penalty, exact": [("eager", None)],
    "penalty, differences, micro-batches of 32": [("compiled", 4)],
    "penalty, exact, micro-batches of 32": [("compiled", 4)],
}


def random_images(count: int) -> Dataset:
    """A data set of CIFAR-10's shape."""
    random = np.random.default_rng(0)

    def split(n):
        return Split(random.integers(0, 256, (n, 3, 32, 32), dtype=np.uint8), random.integers(0, 10, n))

    return Dataset(split(count), split(10), {"classes": list("0123456789"), "mean": [0.5] * 3, "std": [0.25] * 3})


def peak_flops(device: torch.device, size: int) -> float:
    """FLOP/s of a square bf16 matrix product of random numbers."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    seconds(lambda: a @ b)
    return 2 * size**3 * 20 / seconds(lambda: [a @ b for _ in range(20)])


def pass_flops(network: str, images: int) -> float:
    """Floating-point operations of forward and backward over so many images; nothing is computed."""
    objective = Objective(build_model(network, 3, 10, 0).to("meta"))
    theta = torch.zeros(1, len(objective.parameters), device="meta")
    with FlopCounterMode(display=False) as counter:
        objective.gradients(
            theta, torch.zeros(1, 8, 3, 32, 32, device="meta"), torch.zeros(1, 8, dtype=torch.int64, device="meta")
        )
    return counter.get_total_flops() / 8 * images


def trainer_of(network, case, dataset, device, engine="auto", together=None) -> Trainer:
    batch, block, penalty, precision, _ = CASES[case]
    spec = RunSpec(
        paper="benchmark", run="step", scale="paper", seed=0, dataset="random", model=network,
        batch=batch,
        micro_batch=block, epochs=10**6, lr=0.01,
        schedule=make("schedule", "constant", unit="epoch", warmup=0), shuffle=batch != "all",
        momentum=0.9, nesterov=True, weight_decay=5e-4,
        augment=Augmentation(crop_padding=4, flip=True), penalty=penalty,
        clip=None if batch != "all" else 0.25, precision=precision if device.type == "cuda" else "auto",
    )  # fmt: skip
    # A CPU shows only that the script works.
    engine = engine if device.type == "cuda" else "eager"
    return Trainer([spec], dataset, Options(device, engine=engine, together=together))


def time_ours(trainer: Trainer, rounds: int) -> tuple[float, float, float]:
    """Seconds of the first epoch (compilation included), median seconds of an epoch after it, and peak GiB."""
    if trainer.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()

    def epoch():
        for _ in range(trainer.steps_per_epoch):
            trainer.step()

    first = seconds(epoch)
    times = [seconds(epoch) for _ in range(rounds)]
    gib = torch.cuda.max_memory_allocated() / 2**30 if trainer.device.type == "cuda" else float("nan")
    return first, median(times), gib


def time_plain(trainer: Trainer, dataset: Dataset, blocks: int) -> float:
    """Return seconds of an epoch by the plain eager fp32 loop, from so many micro-batches; images are ready."""
    spec = trainer.spec
    model = build_model(spec.model, 3, 10, 0).to(trainer.device).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4)
    loader = Trainer([spec.replace(precision="fp32")], dataset, Options(trainer.device, engine="eager", together=1))
    batches = [(loader.normalize(x[0, 0]), y[0, 0]) for x, y in loader.loader.groups(0, 0, blocks)]
    allow_tf32(False)
    sets = [[batch] for batch in batches] if not spec.full_batch else [batches]

    def epoch():
        for part in sets:
            plain_step(model, optimizer, part, spec.penalty, 0.01)

    seconds(epoch)
    return median(seconds(epoch) for _ in range(3)) * trainer.micro_batches / blocks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS))
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no further case after so long")
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--quick", action="store_true", help="few images and the smallest network")
    options = parser.parse_args()
    device, start = prepare_device(options.device), time.monotonic()
    count, networks = (256, ["resnet_mini"]) if options.quick else (options.images, options.networks)
    dataset = random_images(count)
    peak = peak_flops(device, 512 if options.quick else 8192)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "a CPU"
    heading = (
        f"{count:,} images of 32×32 in an epoch, on {name}; a bf16 matrix product reaches {peak / 1e12:.0f} TFLOP/s."
        " The plain loop computes in fp32 (no TF32) and in torch's own layout; its images are ready."
    )
    plan = [(networks[0], case, engine, way) for case in VARIATIONS for engine, way in VARIATIONS[case]]
    plan = [(networks[0], case, "auto", None) for case in CASES] + plan
    plan += [(network, case, "auto", None) for network in networks[1:] for case in CASES]
    plain: dict[tuple[str, str], float] = {}
    lines = []
    for network, case, engine, way in plan:
        if time.monotonic() - start > options.seconds:
            print("out of time; what is left is not measured", flush=True)
            break
        try:
            trainer = trainer_of(network, case, dataset, device, engine, way)
            first, ours, gib = time_ours(trainer, options.rounds)
            if (network, case) not in plain:
                plain[network, case] = time_plain(trainer, dataset, min(trainer.micro_batches, 40))
        except RuntimeError as error:
            # Not enough memory, mostly; in a capture it does not say so.
            print(f"{network}, {case}, {engine}, {way}: {error}", flush=True)
            continue
        passes = CASES[case][4]
        rate = passes * pass_flops(network, trainer.micro_batches * trainer.spec.micro_batch) / ours
        lines.append({
            "network": network, "epoch": case, "precision": trainer.precision, "engine": trainer.engine_used,
            "micro-batches in a pass": trainer.engine.most,
            "seconds": ours, "times a plain loop": plain[network, case] / ours, "TFLOP/s": rate / 1e12,
            "% of the peak": 100 * rate / peak, "peak GiB": gib, "first epoch [s]": first,
        })  # fmt: skip
        write_table("step_gpu" if not options.quick else "step_gpu_quick", heading, lines)
        # Its graphs hold memory that the next one's peak must not count.
        del trainer
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
