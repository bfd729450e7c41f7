"""What does a full-batch step cost on a CPU, against a plain PyTorch loop doing the same arithmetic?

The network, data and blocks of the mini scale, one thread. Every pair is timed side by side, in turns, and the
ratio is the median over the rounds. `python benchmarks/step_cpu.py` writes results/benchmarks/step_cpu.{json,md}.
"""

from dataclasses import replace
from statistics import median

import torch
from common import digits, median_ratio, side_by_side, write_table
from torch.nn import functional as F

from whysgd.models.build import build_model
from whysgd.study.config import load_config
from whysgd.study.papers import scaled_spec
from whysgd.study.spec import MicroBatchPenalty, Penalty
from whysgd.training.device import prepare_device
from whysgd.training.trainer import Trainer

ROUNDS = 7
PENALTIES = {
    "none": None,
    "forward differences": Penalty("gradient_norm"),
    "exact": Penalty("gradient_norm", variant="exact"),
    "GN": MicroBatchPenalty("micro_batch_gradient_norm", 0.01),
    "FT": MicroBatchPenalty("fisher_trace", 0.01),
    "AJ": MicroBatchPenalty("average_jacobian", 0.001),
    "UJ": MicroBatchPenalty("unit_jacobian", 0.001),
}
# How often a penalty evaluates a gradient; the exact ones differentiate one instead.
PASSES = {"none": 1, "forward differences": 2}


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
    """One step as one would write it: a loop over blocks, nn.Module, torch's optimizer."""
    parameters = list(model.parameters())
    total = [torch.zeros_like(p) for p in parameters]
    for x, y in batches:
        if isinstance(penalty, MicroBatchPenalty):
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


def case(dataset, block: int, penalty_name: str) -> dict:
    """Median seconds of a step of both, their ratio, and the share of ours outside model arithmetic."""
    base = scaled_spec(load_config(), "geiping2022", "fb-reg", 0)
    spec = replace(base, block=block, penalty=PENALTIES[penalty_name], clip=None, augment=None)
    ours, loader = Trainer(spec, dataset), Trainer(spec, dataset, blocks_at_once=1).feed
    batches = [(ours.normalize(x[0]), y[0]) for x, y in loader.stacks(0, 0, ours.blocks)]
    model = build_model(spec.model, 1, 10, spec.seed).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)

    # The arithmetic alone: forward and backward of the stacked blocks, as often as the penalty asks for.
    k = min(ours.grouping.most, len(batches))
    images, labels = torch.stack([x for x, _ in batches[:k]]), torch.stack([y for _, y in batches[:k]])
    copies = ours.state.theta.expand(k, -1)
    passes = PASSES.get(penalty_name)

    def arithmetic():
        for _ in range(len(batches) // k):
            for _ in range(passes):
                ours.objective.gradients(copies, images, labels)

    works = {"loop": lambda: plain_step(model, optimizer, batches, spec.penalty, 0.1), "ours": ours.step}
    times = side_by_side({**works, **({"arithmetic": arithmetic} if passes else {})}, ROUNDS)
    middle = {name: median(values) for name, values in times.items()}
    outside = 100 * (1 - middle["arithmetic"] / middle["ours"]) if passes else float("nan")
    return {
        "blocks": f"{len(batches)} of {block}", "penalty": penalty_name, "loop [ms]": 1e3 * middle["loop"],
        "whysgd [ms]": 1e3 * middle["ours"], "times faster": median_ratio(times["loop"], times["ours"]),
        "images per second": len(batches) * block / middle["ours"], "outside arithmetic [%]": outside,
    }  # fmt: skip


def main() -> None:
    prepare_device("cpu", 1)
    dataset = digits()
    lines = [case(dataset, block, name) for block in (16, 4) for name in PENALTIES]
    for line in lines:
        same = next(other for other in lines if other["blocks"] == line["blocks"] and other["penalty"] == "none")
        line["times a plain step"] = line["whysgd [ms]"] / same["whysgd [ms]"]
    write_table("step_cpu", "Mini network (5,122 parameters), 512 images, one thread, fp32.", lines)


if __name__ == "__main__":
    main()
