"""How fast does each network of the papers train on this machine's device?

Times plain steps (no penalty) of every network, image size and block that the shipped scales train, the evaluation of
images, and steps with each penalty of three networks. It replaces this device's entry of config/speeds.json, from which
`python -m whysgd plan` and the workflow predict costs:

    python benchmarks/speeds.py                       every network: ten minutes on a CPU, longer where it compiles
    python benchmarks/speeds.py --only resnet18       entries of networks whose names have this in them; others stay
    python benchmarks/speeds.py --configfile my.yaml  those of a configuration of yours; others stay

On a CPU with one thread the seconds are the processor's, so that a busy machine changes them little. A step of a large
network is cut to as many blocks, and a block to as many images, as take `--budget` seconds; an entry says which.
"""

import argparse
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from whysgd.study.speeds import FILE, LARGE, REFERENCES, Case, Device, Speed, as_text, case_of, load_speeds

from whysgd.data.canonical import Dataset, Split
from whysgd.files import write_text
from whysgd.measures.accuracy import evaluate
from whysgd.study.config import load_config
from whysgd.study.cost import images_of
from whysgd.study.papers import expand
from whysgd.study.registry import make
from whysgd.study.spec import RunSpec, resolved_precision, trained_images
from whysgd.training.device import device_name, memory_of, prepare_device
from whysgd.training.grouping import saved_bytes
from whysgd.training.stack import Stack
from whysgd.training.trainer import Trainer

OVERLAYS = ([], ["config/midi.yaml"], ["config/paper.yaml"], ["config/paper.yaml", "config/mnist.yaml"])
# Blocks of a step beyond which its images per second do not change.
MOST_BLOCKS = 128
PENALTIES = {
    "forward-differences": make("penalty", "gradient_norm"),
    "exact": make("penalty", "gradient_norm", variant="exact"),
    **{name: make("penalty", name, strength=1e-6) for name in (
        "micro_batch_gradient_norm", "fisher_trace", "average_jacobian", "unit_jacobian",
    )},
}  # fmt: skip
REFERENCE_CASES = (Case("resnet_mini", 1, 8, 16, 32), Case("fc_d2_w32", 1, 8, 4, 40), Case("resnet18", 3, 32, 16, 1))


def wanted_cases(overlays=OVERLAYS) -> dict[Case, RunSpec]:
    """Every case of these configurations, with a run that has it."""
    cases: dict[Case, RunSpec] = {}
    for overlay in overlays:
        config = load_config(overlay)
        together: dict[tuple, list[RunSpec]] = {}
        for spec in expand(config).values():
            together.setdefault((spec.paper, spec.run), []).append(spec)
        for specs in together.values():
            known = images_of(config, specs[0].dataset)
            case = case_of(specs, known.channels, known.size, trained_images(specs[0], known.train))
            cases.setdefault(replace(case, blocks=min(case.blocks, MOST_BLOCKS)), specs[0])
    return cases


def noise(case: Case) -> Dataset:
    """Random images, as many as one step takes, and a test set that nobody looks at."""
    random, count = np.random.default_rng(0), max(2, case.block * case.blocks)
    shape = (case.channels, case.size, case.size)
    splits = [
        Split(random.integers(0, 256, (n, *shape), dtype=np.uint8), random.integers(0, 10, n)) for n in (count, 1)
    ]
    manifest = {"classes": list(map(str, range(10))), "mean": [0.5] * case.channels, "std": [0.25] * case.channels}
    return Dataset(*splits, manifest)


def spec_of(case: Case, like: RunSpec | None = None, penalty=None, seed: int = 0) -> RunSpec:
    """Plain SGD with momentum on the blocks of a case, with the order and augmentation of a run like it."""
    return RunSpec(
        paper="speeds", run="speeds", scale="speeds", seed=seed, dataset="noise", model=case.model,
        macro_batch=case.block * case.blocks, block=case.block, epochs=None, steps=1_000_000, lr=1e-6,
        schedule=make("schedule", "constant", unit="step", warmup=0), momentum=0.9, penalty=penalty, evaluations=1,
        shuffle=like is not None and like.shuffle, augment=like and like.augment,
        # Enough to keep the run out of lockstep, and nothing more.
        clip=None if case.lockstep else 1e6,
    )  # fmt: skip


def stepper(case: Case, device, like: RunSpec | None = None, penalty=None):
    """A function that makes a step of all runs of a case, and the first one's trainer."""
    dataset = noise(case)
    trainers = [Trainer(spec_of(case, like, penalty, seed), dataset, device) for seed in range(max(1, case.lockstep))]
    return (Stack(trainers).step if case.lockstep else trainers[0].step), trainers[0]


def timed(work, device, least: float, warm: int = 1) -> float:
    """Seconds of one call: the least of three rounds, which together take `least` seconds or are one call each."""
    clock = time.perf_counter if device.type == "cuda" or torch.get_num_threads() > 1 else time.process_time

    def calls(count):
        begin = clock()
        for _ in range(count):
            work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return clock() - begin

    if warm:
        calls(warm)
    first = calls(1)
    if first > least:
        return first
    count = max(1, round(least / 3 / max(first, 1e-6)))
    return min(calls(count) for _ in range(3)) / count


def cut(case: Case, device, budget: float) -> Case:
    """A case of which a step takes about `budget` seconds, at most; on a GPU it is left whole."""
    few = replace(case, block=min(case.block, 8), blocks=1)
    if device.type == "cuda" or (few.block == case.block and case.blocks == 1):
        return case
    work, trainer = stepper(few, device)
    small = len(trainer.state.theta) < LARGE and case.size < 20
    image = timed(work, device, 0.05) / few.block
    if small or image * case.block * case.blocks <= budget:
        return case
    block = case.block
    while block > 8 and image * block > budget:
        block //= 2
    return replace(case, block=block, blocks=max(1, min(case.blocks, int(budget / (image * block)))))


def measured(case: Case, like: RunSpec, device, budget: float) -> Speed:
    """The speed of a case that `cut` has made small enough."""
    work, trainer = stepper(case, device, like)
    taken = timed(work, device, 0.5, warm=3 if device.type == "cuda" else 1)
    images = case.block * case.blocks * max(1, case.lockstep)
    speed = images / taken
    # What a history's line costs, of so many images as take less than the budget.
    count = max(8, min(1000, int(speed * budget)))
    random = np.random.default_rng(1)
    shape = (count, case.channels, case.size, case.size)
    pixels = torch.from_numpy(random.integers(0, 256, shape, dtype=np.uint8)).to(device)
    labels = torch.zeros(count, dtype=torch.int64, device=device)
    state = trainer.state
    seconds = timed(
        lambda: evaluate(trainer.objective, state.theta, state.running, pixels, labels, trainer.normalize), device, 0.2,
        warm=int(count < 1000),
    )  # fmt: skip
    saved = saved_bytes(trainer.objective, case.block, shape[1:]) / 2**20 if device.type == "cpu" else (
        saved_bytes(Trainer(spec_of(case), noise(case), "cpu").objective, case.block, shape[1:]) / 2**20
    )  # fmt: skip
    return Speed(case, speed, count / seconds, len(state.theta), saved)


def factors(case: Case, device) -> dict[str, float]:
    """How many times a plain step's time a step with each penalty takes: medians of three, side by side."""
    plain, _ = stepper(case, device)
    found = {}
    for name, penalty in PENALTIES.items():
        work, _ = stepper(case, device, penalty=penalty)
        ratios = [timed(work, device, 0.2) / timed(plain, device, 0.2) for _ in range(3)]
        found[name] = sorted(ratios)[1]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[""], help="parts of the names of the networks to measure")
    parser.add_argument("--configfile", nargs="+", help="of whose networks, in place of the shipped scales'")
    parser.add_argument("--budget", type=float, default=6.0, help="seconds for a step")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=FILE)
    options = parser.parse_args()
    device = prepare_device(options.device, options.threads)
    name, gpu = device_name(device), device.type == "cuda"
    devices = load_speeds(options.out) if options.out.exists() else {}
    before = devices.get(name)
    entries = (
        {speed.case: speed for speed in before.speeds}
        if before and (options.only != [""] or options.configfile)
        else {}
    )
    plain = spec_of(Case("resnet18", 3, 32, 128, 1))
    about = {
        "kind": "gpu" if gpu else "cpu", "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "torch": torch.__version__.split("+")[0],
        "threads": options.threads, "precision": resolved_precision(plain, device.type),
        "engine": "compiled" if gpu else "eager",
        "seconds": "clock" if gpu or options.threads > 1 else "processor",
    }  # fmt: skip
    penalties = dict(before.penalties) if before else {}
    for case in REFERENCE_CASES:
        case = replace(case, block=128) if gpu and case.model == REFERENCES["large"] else case
        if case.model not in penalties or (any(part in case.model for part in options.only) and not options.configfile):
            penalties[case.model] = factors(case, device)
            print(case.model, penalties[case.model], flush=True)
    assert set(penalties) == set(REFERENCES.values())
    wanted = wanted_cases([options.configfile] if options.configfile else OVERLAYS).items()
    wanted = {case: like for case, like in wanted if any(part in case.model for part in options.only)}
    cases = {cut(case, device, options.budget): like for case, like in wanted.items()}
    for place, (case, like) in enumerate(cases.items(), 1):
        try:
            speed = measured(case, like, device, options.budget)
        except torch.cuda.OutOfMemoryError:
            print(f"{case}: does not fit this device's {memory_of(device) / 2**30:.0f} GiB", file=sys.stderr)
            continue
        entries[speed.case] = speed
        print(f"{place} of {len(cases)}: {speed}", flush=True)
    devices = {**devices, name: Device(name, about, penalties, tuple(entries.values()))}
    write_text(options.out, as_text(list(devices.values())))
    print(f"{options.out}: {len(entries)} cases of {name}")


if __name__ == "__main__":
    main()
