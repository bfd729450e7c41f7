"""What does a step cost on a CPU? Ratios measured in one run, on one thread.

A regularized step over many micro-batches against a plain PyTorch loop that does the same arithmetic, and steps of
several seeds at once against one seed after another. Works are timed side by side, in turns; a ratio is the median over
the rounds. `python benchmarks/steps.py` writes results/benchmarks/steps_{penalties,seeds}.{json,md}.
"""

import argparse
from statistics import median

import numpy as np
import torch
from common import OUT, digits, median_ratio, side_by_side, write_table
from torch.nn import functional as F

from whysgd.data.canonical import Dataset, Split
from whysgd.models.build import build_model
from whysgd.study.config import load_config
from whysgd.study.papers import scaled_spec
from whysgd.study.registry import make
from whysgd.study.spec import Augmentation, RunSpec
from whysgd.training.device import prepare_device
from whysgd.training.loop import Trainer
from whysgd.training.objective import Objective

ROUNDS, STEPS = 7, 50
# Of simsekli2019, from the smallest to the largest.
NETWORKS = ("fc_d2_w4", "fc_d10_w4", "fc_d4_w16", "fc_d4_w64", "fc_d10_w64", "fc_d4_w256")
PENALTIES = {
    "none": None,
    "forward differences": make("penalty", "gradient_norm"),
    "exact": make("penalty", "gradient_norm", variant="exact"),
    "GN": make("penalty", "micro_batch_gradient_norm", strength=0.01),
    "FT": make("penalty", "fisher_trace", strength=0.01),
    "AJ": make("penalty", "average_jacobian", strength=0.001),
    "UJ": make("penalty", "unit_jacobian", strength=0.001),
}


def micro_batch_gradient(model, x, y, penalty) -> list[torch.Tensor]:
    """Gradient of the loss and of novack2023's penalty of one micro-batch, as one would write it."""
    parameters, logits = list(model.parameters()), model(x)
    loss = F.cross_entropy(logits, y)
    if penalty.name == "fisher_trace":
        score = F.cross_entropy(logits, torch.distributions.Categorical(logits=logits.detach()).sample())
    elif penalty.name == "average_jacobian":
        score = logits.mean(0).sum()
    elif penalty.name == "unit_jacobian":
        u = torch.randn(logits.shape[1])
        score = logits.mean(0) @ (u / u.norm())
    else:
        score = loss
    q = torch.autograd.grad(score, parameters, create_graph=True)
    total = loss + penalty.strength * sum(part.square().sum() for part in q)
    return torch.autograd.grad(total, parameters)


def plain_step(model, optimizer, batches, penalty, lr):
    """One step as one would write it: a loop over micro-batches, nn.Module, torch's optimizer."""
    parameters = list(model.parameters())
    total = [torch.zeros_like(p) for p in parameters]
    for x, y in batches:
        if penalty is not None and penalty.name != "gradient_norm":
            for t, g in zip(total, micro_batch_gradient(model, x, y, penalty), strict=True):
                t.add_(g, alpha=1 / len(batches))
            continue
        exact = penalty is not None and penalty.exact
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


def regularized(dataset: Dataset, micro_batch: int, penalty_name: str) -> dict:
    """Compare a full-batch step of the mini scale's network with a plain loop over its micro-batches."""
    base = scaled_spec(load_config(), "geiping2022", "fb-reg", 0)
    spec = base.replace(micro_batch=micro_batch, penalty=PENALTIES[penalty_name], clip=None, augment=None)
    ours = Trainer([spec], dataset)
    groups = ours.loader.groups(0, 0, ours.micro_batches)
    batches = [(ours.normalize(x), y) for images, labels in groups for x, y in zip(images[0], labels[0], strict=True)]
    model = build_model(spec.model, 1, 10, spec.seed).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    works = {"loop": lambda: plain_step(model, optimizer, batches, spec.penalty, 0.1), "ours": ours.step}
    times = side_by_side(works, ROUNDS)
    return {
        "micro-batches": f"{len(batches)} of {micro_batch}", "penalty": penalty_name,
        "plain loop [ms]": 1e3 * median(times["loop"]), "whysgd [ms]": 1e3 * median(times["ours"]),
        "times faster": median_ratio(times["loop"], times["ours"]),
    }  # fmt: skip


def seeds_at_once(dataset: Dataset, model: str, micro_batch: int, seeds: int, **changes) -> dict:
    """Compare SGD steps of several seeds at once with the same steps one seed after another.

    "alone" is each seed by the same engine; "autograd" is each seed without the chain rule written out.
    """
    spec = RunSpec(
        paper="none", run="benchmark", scale="none", seed=0, dataset="none", model=model, batch=micro_batch,
        micro_batch=micro_batch, epochs=None, steps=10**6, lr=0.01,
        schedule=make("schedule", "constant", unit="run", warmup=0), **changes,
    )  # fmt: skip
    specs = [spec.replace(seed=seed) for seed in range(seeds)]
    together = Trainer(specs, dataset)
    alone, autograd = ([Trainer([one], dataset) for one in specs] for _ in range(2))
    for trainer in autograd:
        trainer.engine.gradients = Objective.gradients
    works = {
        name: lambda runs=runs: [run.step() for run in runs for _ in range(STEPS)]
        for name, runs in (("together", [together]), ("alone", alone), ("autograd", autograd))
    }
    times = side_by_side(works, ROUNDS)
    return {
        "network": model, "micro-batch": str(micro_batch), "seeds": str(seeds),
        "parameters": len(together.objective.parameters), "pairs in a pass": min(seeds, together.engine.most),
        "a step of all, at once [ms]": 1e3 * median(times["together"]) / STEPS,
        "one by one / at once": median_ratio(times["alone"], times["together"]),
        "by autograd, one by one / at once": median_ratio(times["autograd"], times["together"]),
    }  # fmt: skip


def noise(size: int, count: int = 2000) -> Dataset:
    """Return noise in the form of images: the time of a step does not depend on what is to be seen."""
    random = np.random.default_rng(0)
    parts = [
        Split(random.integers(0, 256, (n, 1, size, size), dtype=np.uint8), random.integers(0, 10, n))
        for n in (count, 100)
    ]
    return Dataset(*parts, {"classes": list("0123456789"), "mean": [0.5], "std": [0.3]})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["penalties", "seeds"])
    parser.add_argument("--out", type=type(OUT), default=OUT)
    options = parser.parse_args()
    prepare_device("cpu", 1)
    if options.only != "seeds":
        data = digits()
        lines = [regularized(data, micro_batch, name) for micro_batch in (16, 4) for name in PENALTIES]
        heading = "A step of the mini scale's network (5,122 parameters) over 512 images, one thread, fp32."
        write_table("steps_penalties", heading, lines, options.out)
    if options.only != "penalties":
        small, large = noise(8), noise(28)
        drawn = {"shuffle": True, "augment": Augmentation(crop_padding=1, flip=False)}
        lines = [seeds_at_once(small, "resnet_mini", n, 5, **drawn) for n in (16, 64)]
        lines += [seeds_at_once(large, name, 100, 3) for name in NETWORKS]
        heading = f"SGD steps of several seeds, one thread, fp32; medians of {ROUNDS} rounds of {STEPS} steps."
        write_table("steps_seeds", heading, lines, options.out)


if __name__ == "__main__":
    main()
