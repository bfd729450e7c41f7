"""What does a full-batch step cost on a CPU, against a plain PyTorch loop doing the same arithmetic?

The network, data and blocks of the mini scale, one thread. Every pair is timed side by side, in turns, and the
ratio is the median over the rounds. `python benchmarks/step_cpu.py` writes results/benchmarks/step_cpu.{json,md}.
"""

import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import pandas as pd
import torch
from torch.nn import functional as F

from whysgd.config import load_config
from whysgd.data.build import build_dataset
from whysgd.data.canonical import load_dataset
from whysgd.files import write_json, write_text
from whysgd.models.build import build_model
from whysgd.papers import scaled_spec
from whysgd.spec import Penalty
from whysgd.training.device import prepare_device
from whysgd.training.loop import Trainer

ROUNDS = 7
OUT = Path("results/benchmarks")
PENALTIES = {
    "none": None,
    "forward differences": Penalty("gradient_norm"),
    "exact": Penalty("gradient_norm", implementation="autograd"),
}


def plain_step(model, optimizer, batches, penalty, lr):
    """One step as one would write it: a loop over blocks, nn.Module, torch's optimizer."""
    parameters = list(model.parameters())
    total = [torch.zeros_like(p) for p in parameters]
    for x, y in batches:
        exact = penalty is not None and penalty.implementation == "autograd"
        grads = torch.autograd.grad(F.cross_entropy(model(x), y), parameters, create_graph=exact)
        added = [torch.zeros_like(g) for g in grads]
        if exact:
            v = [penalty.block_strength * g.detach() for g in grads]
            added = torch.autograd.grad(grads, parameters, grad_outputs=v)
        elif penalty is not None:
            v = [penalty.block_strength * g for g in grads]
            eps = penalty.eps / torch.sqrt(sum(part.square().sum() for part in v))
            saved = [p.detach().clone() for p in parameters]
            with torch.no_grad():
                for p, part in zip(parameters, v, strict=True):
                    p.add_(eps * part)
            shifted = torch.autograd.grad(F.cross_entropy(model(x), y), parameters)
            with torch.no_grad():
                for p, old in zip(parameters, saved, strict=True):
                    p.copy_(old)
            added = [(s - g) / eps for s, g in zip(shifted, grads, strict=True)]
        for t, g, a in zip(total, grads, added, strict=True):
            t.add_(g.detach() + lr / 4 * a, alpha=1 / len(batches))
    for p, t in zip(parameters, total, strict=True):
        p.grad = t
    optimizer.step()


def seconds(work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def case(dataset, block: int, penalty_name: str) -> dict:
    """Median seconds of a step of both, their ratio, and the share of ours outside model arithmetic."""
    base = scaled_spec(load_config(), "geiping2022", "fb-reg", 0)
    spec = replace(base, block=block, penalty=PENALTIES[penalty_name], clip=None, augment=None)
    ours = Trainer(spec, dataset)
    ours._begin_epoch(0)
    loaded = [ours.load(b[None]) for b in ours.blocks]
    batches = [(x[0], y[0]) for x, y in loaded]
    model = build_model(spec.model, 1, 10, spec.seed).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)

    # The arithmetic alone: forward and backward of the stacked blocks, as often as the penalty asks for.
    k = min(ours.blocks_at_once, len(batches))
    images, labels = torch.stack([x for x, _ in batches[:k]]), torch.stack([y for _, y in batches[:k]])
    copies = ours.state.theta.expand(k, -1)
    passes = {"none": 1, "forward differences": 2, "exact": None}[penalty_name]

    def arithmetic():
        for _ in range(len(batches) // k):
            for _ in range(passes):
                ours.objective.gradients(copies, images, labels)

    def loop():
        plain_step(model, optimizer, batches, spec.penalty, 0.1)

    loop(), ours.step(), passes and arithmetic()
    times = [
        (seconds(loop), seconds(ours.step), seconds(arithmetic) if passes else float("nan")) for _ in range(ROUNDS)
    ]
    plain, fast, inner = (median(column) for column in zip(*times, strict=True))
    return {
        "blocks": f"{len(batches)} of {block}", "penalty": penalty_name, "loop [ms]": 1e3 * plain,
        "whysgd [ms]": 1e3 * fast, "times faster": median(a / b for a, b, _ in times),
        "images per second": len(batches) * block / fast, "outside arithmetic [%]": 100 * (1 - inner / fast),
    }  # fmt: skip


def _shown(value) -> str:
    if isinstance(value, str):
        return value
    return "–" if value != value else f"{value:.0f}" if value > 1000 else f"{value:.1f}"


def main() -> None:
    prepare_device("cpu", 1)
    folder = Path("results/data/digits")
    if not (folder / "manifest.json").is_file():
        build_dataset("digits", None, Path("data"), folder)
    dataset = load_dataset(folder)
    lines = [case(dataset, block, name) for block in (16, 4) for name in PENALTIES]
    for line in lines:
        same = next(other for other in lines if other["blocks"] == line["blocks"] and other["penalty"] == "none")
        line["times a plain step"] = line["whysgd [ms]"] / same["whysgd [ms]"]
    shown = pd.DataFrame(lines).map(_shown)
    align = ["left", "left", *["right"] * (len(shown.columns) - 2)]
    table = shown.to_markdown(index=False, colalign=align, disable_numparse=True)
    write_json(OUT / "step_cpu.json", [{k: None if v != v else v for k, v in line.items()} for line in lines])
    write_text(OUT / "step_cpu.md", f"Mini network (5,122 parameters), 512 images, one thread, fp32.\n\n{table}\n")
    print((OUT / "step_cpu.md").read_text())


if __name__ == "__main__":
    main()
