"""The gradient noise along a run: its tail index, its norms, and the norms of each layer."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from math import isfinite, nan

import torch

from whysgd.files import csv_text
from whysgd.measures.noise import Noise, noise_of
from whysgd.results.paths import LAYERS, NOISE, NOISE_NORMS
from whysgd.study.spec import RunSpec
from whysgd.training.checkpoint import State
from whysgd.training.dense import fastest_gradients
from whysgd.training.objective import Objective

# How many numbers the gradients, and the images, of the micro-batches may have whose noise is computed at once.
NOISE_NUMBERS = 1 << 20

# step: optimizer steps made when it was measured. tail_index with its 95 % interval: of the noise of all parameters,
# as published; tail_index_active: of those whose gradient is not zero on every mini-batch; m: entries of each sum in
# both; inactive_parameters: the share of the others, in percent. noise_norm2: mean over mini-batches of ‖U_b‖²;
# gradient_norm: ‖mean_b g_b‖. test_…: the same of the test set's mini-batches, of a run that measures these.
_OF_A_SPLIT = (
    "tail_index", "tail_index_low", "tail_index_high", "tail_index_active", "tail_index_active_low",
    "tail_index_active_high", "m", "inactive_parameters", "noise_norm2", "gradient_norm",
)  # fmt: skip
NOISE_COLUMNS = ("seed", "step", *_OF_A_SPLIT, *(f"test_{name}" for name in _OF_A_SPLIT))
# L2 norms of a layer's parameters and of their mean gradient.
LAYER_COLUMNS = ("seed", "step", "layer", "parameters", "weight_norm", "gradient_norm")
NORM_COLUMNS = ("seed", "step", "split", "mini_batch", "noise_norm")


def noise_steps(points: int, total: int) -> set[int]:
    """Return the steps after which the noise is measured: 0, and round(total^(i/points)) for i = 1 … points."""
    return {0, *(round(total ** (i / points)) for i in range(1, points + 1))}


def measured_noise(state: State, spec: RunSpec, objective: Objective, data: Mapping, normalize: Callable) -> dict:
    """Measure the gradient noise of a seed once; the result is ready for JSON.

    It is that of the full micro-batches of images as they are, in their order, in evaluation mode, in fp32.

    Args:
        state, spec: of the seed.
        objective: the network, whose layers are told apart.
        data: images (N, C, H, W) uint8 and labels (N,) of the splits "train" and "test".
        normalize: from images as they are stored to what the network takes.

    Returns:
        `line` (a line of noise.csv), `layers` (lines of layers.csv, of the training images) and `norms`, ‖U_b‖ of each
        micro-batch, by split.
    """
    step, theta, parameters = state.step, state.theta, objective.parameters
    objective = Objective(objective.model, None, spec.loss, spec.label_smoothing, state.running)
    splits, found = ("train", "test") if spec.noise.test else ("train",), {}
    for split in splits:
        images, labels = data[split]
        gradients = partial(micro_batch_gradients, objective, theta, images, labels, spec.micro_batch, normalize)
        found[split] = noise_of(gradients, len(labels) // spec.micro_batch, len(theta))
    line = {"step": step, **_numbers(found["train"])}
    if spec.noise.test:
        line |= {f"test_{name}": value for name, value in _numbers(found["test"]).items()}
    weights, means = parameters.views(theta), parameters.views(found["train"].gradient)
    layers = [
        {"step": step, "layer": name, "parameters": size, "weight_norm": weights[name].norm().item(),
         "gradient_norm": means[name].norm().item()}
        for name, size in zip(parameters.names, parameters.sizes, strict=True)
    ]  # fmt: skip
    return {"line": line, "layers": layers, "norms": {name: one.noise_norms.tolist() for name, one in found.items()}}


def _numbers(noise: Noise) -> dict[str, float | int | None]:
    """Return what a line of noise.csv has of a split, None where it is not finite."""
    found = {}
    for name, estimate in (("tail_index", noise.alpha), ("tail_index_active", noise.active)):
        # Lighter than normal tails: no α describes them.
        value = estimate.value if estimate.value > 0 else nan
        found |= {name: value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    found |= {
        "m": noise.alpha.m,
        "inactive_parameters": 100 * noise.inactive,
        "noise_norm2": noise.noise_norms.square().mean().item(),
        "gradient_norm": noise.gradient.norm().item(),
    }
    return {name: value if isinstance(value, int) or isfinite(value) else None for name, value in found.items()}


def micro_batch_gradients(objective: Objective, theta, images, labels, n: int, normalize) -> Iterator[torch.Tensor]:
    """Yield the gradients (k, P) of the full micro-batches of n images, some at a time, in order."""
    count, gradients = len(labels) // n, fastest_gradients(objective)
    together = max(1, min(count, NOISE_NUMBERS // len(theta), NOISE_NUMBERS // (n * images[0].numel())))
    for start in range(0, count, together):
        rows = slice(start * n, min(start + together, count) * n)
        inputs = normalize(images[rows].to(theta.device)).unflatten(0, (-1, n))
        own = labels[rows].unflatten(0, (-1, n))
        yield gradients(objective, theta.expand(len(own), -1), inputs, own)[1]


def noise_files(seeds: Mapping[int, Sequence[dict]]) -> dict[str, str]:
    """Return the three files as CSV, by name, from what was measured of each seed; noise norms with nine digits."""
    lines, layers, norms = [], [], []
    for seed, measured in seeds.items():
        for one in measured:
            step = one["line"]["step"]
            lines.append({"seed": seed, **one["line"]})
            layers += [{"seed": seed, **layer} for layer in one["layers"]]
            norms += [
                {"seed": seed, "step": step, "split": split, "mini_batch": number, "noise_norm": f"{norm:.9g}"}
                for split, own in one["norms"].items()
                for number, norm in enumerate(own)
            ]
    return {
        NOISE: csv_text(NOISE_COLUMNS, lines),
        LAYERS: csv_text(LAYER_COLUMNS, layers),
        NOISE_NORMS: csv_text(NORM_COLUMNS, norms),
    }
