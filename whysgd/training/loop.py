"""One loop for mini-batch and full-batch training: accumulate over blocks, penalty, transform, step."""

import csv
import io
import math
import platform
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout
from safetensors.torch import save_file

from whysgd.codedigest import code_digest
from whysgd.data.augmentation import Normalizer, crop_and_flip, draw
from whysgd.data.blocks import epoch_blocks, stacks, step_blocks
from whysgd.data.canonical import Dataset, load_dataset
from whysgd.errors import UserError
from whysgd.files import digest_of, write_atomically, write_json, write_text
from whysgd.measures.accuracy import evaluate
from whysgd.models.build import build_model
from whysgd.spec import RunSpec, steps_per_epoch
from whysgd.training.checkpoint import State, load_checkpoint, remove_checkpoint, save_checkpoint
from whysgd.training.gradients import step_gradient
from whysgd.training.objective import Objective
from whysgd.training.progress import Progress
from whysgd.training.schedules import learning_rate
from whysgd.training.sgd import sgd_step
from whysgd.training.transforms import clip

METRICS, HISTORY, MODEL = "metrics.json", "history.csv", "model.safetensors"
HISTORY_COLUMNS = (
    "step", "epoch", "lr", "step_loss", "full_loss", "train_loss", "train_accuracy", "test_loss",
    "test_accuracy", "gradient_norm", "clipped", "parameter_norm",
)  # fmt: skip


class Trainer:
    """One run in memory: data, network and state. `run` makes steps; nothing here touches the disk.

    Args:
        spec: what to run.
        dataset: the canonical data set it names.
        device: where tensors live.
        blocks_at_once: most blocks in one stack; None chooses by size.
    """

    def __init__(self, spec: RunSpec, dataset: Dataset, device="cpu", blocks_at_once: int | None = None):
        images = dataset.train.images
        if spec.block > len(images):
            raise UserError(f"{spec.run}: block = {spec.block}: must be at most {len(images)}, the training images")
        self.spec, self.device = spec, torch.device(device)
        statistics = spec.normalize or dataset.manifest
        mean, std = (_field(statistics, name) for name in ("mean", "std"))
        if len(mean) != images.shape[1]:
            raise UserError(f"{spec.run}: normalize: has {len(mean)} channels, the images have {images.shape[1]}")
        self.normalize = Normalizer(mean, std, device=device)
        self.data = {
            split: tuple(torch.from_numpy(array).to(self.device) for array in (part.images, part.labels))
            for split, part in (("train", dataset.train), ("test", dataset.test))
        }
        model = build_model(spec.model, images.shape[1], len(dataset.manifest["classes"]), spec.seed)
        model.to(self.device)
        self.objective = Objective(model)
        theta = self.objective.parameters.vector({n: p.detach() for n, p in model.named_parameters()})
        buffers = self.objective.buffers.vector(dict(model.named_buffers())) if self.objective.buffers.names else theta[:0]
        self.state = State(theta, torch.zeros_like(theta), buffers.clone())
        self.images = len(images)
        self.steps_per_epoch = steps_per_epoch(spec, self.images)
        self.total = spec.epochs * self.steps_per_epoch
        points = min(spec.evaluations, self.total)
        self.evaluation_steps = {round((i + 1) * self.total / points) for i in range(points)}
        self.blocks_at_once = blocks_at_once or default_blocks_at_once(
            len(theta), spec.block, images.shape[2] * images.shape[3]
        )
        self._epoch = -1

    def _begin_epoch(self, epoch: int) -> None:
        if epoch == self._epoch:
            return
        self._epoch = epoch
        self.blocks = epoch_blocks(self.spec, self.images, epoch)
        augment = self.spec.augment
        self.draws = draw(augment, self.images, self.spec.seed, epoch, self.device) if augment else None

    def load(self, index: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Images (k, n, C, H, W), augmented and normalized, and labels (k, n), of the image numbers (k, n)."""
        images, labels = self.data["train"]
        index = torch.from_numpy(index).to(self.device)
        flat = index.flatten()
        chosen = images[flat]
        if self.draws is not None:
            chosen = crop_and_flip(chosen, self.draws.take(flat), self.spec.augment.crop_padding)
        return self.normalize(chosen).unflatten(0, index.shape), labels[index]

    def step(self) -> dict:
        """Make one optimizer step; returns what the history records of it (tensors are not read back)."""
        spec, state = self.spec, self.state
        epoch, within = divmod(state.step, self.steps_per_epoch)
        self._begin_epoch(epoch)
        clock = epoch if spec.schedule.unit == "epoch" else state.step
        lr = learning_rate(spec.schedule, spec.lr, clock)
        blocks = step_blocks(spec, self.blocks, within)
        groups = stacks(blocks, self.blocks_at_once)
        result = step_gradient(
            self.objective, state.theta, state.running, lambda: map(self.load, groups),
            len(blocks), lr, spec.penalty, spec.averaging,
        )  # fmt: skip
        gradient, norm = result.gradient, result.gradient.norm()
        if spec.clip is not None:
            gradient = clip(gradient, norm, spec.clip)
        strength = spec.penalty.block_strength if spec.penalty else 0.0
        full_loss = result.loss + 0.5 * spec.weight_decay * state.theta.square().sum()
        full_loss = full_loss + lr / 4 * strength * result.square_norm
        sgd_step(state.theta, state.momentum, gradient, lr, spec.momentum, spec.nesterov, spec.weight_decay)
        state.running = result.running
        state.step += 1
        state.blocks += len(blocks)
        clipped = norm > spec.clip if spec.clip is not None else torch.zeros((), dtype=torch.bool)
        return {"epoch": epoch + 1, "lr": lr, "step_loss": result.loss, "full_loss": full_loss,
                "gradient_norm": norm, "clipped": clipped}  # fmt: skip

    def evaluate(self, step: dict) -> dict:
        """One line of the history: the step just made, and both splits after it."""
        state = self.state
        row = {"step": state.step}
        row |= {key: value.item() if isinstance(value, torch.Tensor) else value for key, value in step.items()}
        for split, (images, labels) in self.data.items():
            measured = evaluate(self.objective, state.theta, state.running, images, labels, self.normalize)
            row |= {f"{split}_{key}": value for key, value in measured.items()}
        row["parameter_norm"] = state.theta.norm().item()
        row["clipped"] = int(row["clipped"])
        return {column: row[column] for column in HISTORY_COLUMNS}

    def tensors(self) -> dict[str, torch.Tensor]:
        """The network's state dict: weights, running statistics and batch norm's counters."""
        state, objective = self.state, self.objective
        named = {**objective.parameters.views(state.theta), **objective.buffers.views(state.running)}
        counters = {name: torch.tensor(state.blocks) for name in objective.counters}
        return {name: tensor.cpu().clone() for name, tensor in {**named, **counters}.items()}


def _field(source, name: str):
    return source[name] if isinstance(source, dict) else getattr(source, name)


def default_blocks_at_once(parameters: int, block: int, pixels: int) -> int:
    """How many blocks to stack: as many as keep weight copies (4 MB) and one channel of the images in cache.

    Small networks on small images are bound by the overhead of each operation and gain up to 16 times;
    large ones are bound by arithmetic and gain nothing.
    """
    return max(1, min((1 << 20) // parameters, (1 << 15) // (block * pixels)))


def train(spec: RunSpec, data: Path, out: Path, device="cpu", checkpoint_seconds: float = 30.0) -> dict:
    """Run one specification to its end and write metrics.json, history.csv and model.safetensors.

    Continues from a checkpoint of the same job if there is one; the result is bit-identical to an
    uninterrupted run's on the CPU with the same number of threads (apart from times). A loss that is
    not finite ends the run as a result marked `diverged`.

    Args:
        spec: the run.
        data: folder of the canonical data set.
        out: the run's folder.
        device: where to train.
        checkpoint_seconds: time between two checkpoints.

    Returns:
        the metrics.

    Raises:
        UserError: the data are damaged, or another process trains in the same folder.
    """
    out.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(out / ".lock", timeout=0):
            return _train(spec, data, out, device, checkpoint_seconds)
    except Timeout:
        raise UserError(f"{out}: another process is training in this folder; wait for it or end it") from None


def _train(spec: RunSpec, data: Path, out: Path, device, checkpoint_seconds: float) -> dict:
    dataset = load_dataset(data)
    code = code_digest(__name__)
    identity = digest_of({"spec": spec.to_dict(), "data": dataset.manifest["sha256"], "code": code})
    trainer = Trainer(spec, dataset, device)
    trainer.state = load_checkpoint(out, identity, trainer.device) or trainer.state
    state = trainer.state
    state.started = state.started or _now()
    progress = Progress(f"{spec.paper}/{spec.run} seed {spec.seed}", trainer.total, state.step)
    last, begin, diverged = time.monotonic(), time.perf_counter(), False
    while state.step < trainer.total and not diverged:
        step = trainer.step()
        progress.step()
        diverged = not math.isfinite(step["step_loss"].item())
        if diverged or state.step in trainer.evaluation_steps:
            state.seconds += time.perf_counter() - begin
            state.history.append(trainer.evaluate(step))
            progress.evaluation(state.history[-1])
            begin = time.perf_counter()
        if time.monotonic() - last >= checkpoint_seconds:
            now = time.perf_counter()
            state.seconds += now - begin
            save_checkpoint(out, state, identity)
            last, begin = time.monotonic(), time.perf_counter()
    state.seconds += time.perf_counter() - begin
    progress.close()
    metrics = _metrics(trainer, dataset, code, diverged)
    write_atomically(out / MODEL, lambda path: save_file(trainer.tensors(), path))
    write_text(out / HISTORY, history_csv(state.history))
    write_json(out / METRICS, metrics)
    remove_checkpoint(out)
    return metrics


def history_csv(rows: list[dict]) -> str:
    """The history as CSV, one line for each evaluation; floats as Python writes them, exactly."""
    text = io.StringIO()
    writer = csv.DictWriter(text, HISTORY_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _metrics(trainer: Trainer, dataset: Dataset, code: str, diverged: bool) -> dict:
    spec, state = trainer.spec, trainer.state
    measured = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
    final = state.history[-1]
    best = max(state.history, key=lambda row: row["test_accuracy"])
    images = spec.block * len(trainer.blocks) * state.step / trainer.steps_per_epoch
    return {
        "paper": spec.paper, "run": spec.run, "scale": spec.scale, "seed": spec.seed,
        "status": "diverged" if diverged else "finished",
        "steps": state.step,
        "final": {key: _finite(final[key]) for key in measured},
        "best": {"step": best["step"], **{key: _finite(best[key]) for key in measured}},
        "parameters": len(state.theta),
        "settings": spec.to_dict(),
        "spec_digest": spec.digest,
        "data": {key: dataset.manifest[key] for key in ("name", "label", "sha256", "train_images", "test_images")},
        "code_digest": code,
        "versions": {"python": platform.python_version(), **{p: version(p) for p in ("torch", "numpy")}},
        "device": torch.cuda.get_device_name() if trainer.device.type == "cuda" else _processor(),
        "threads": torch.get_num_threads(),
        "seconds_per_step": state.seconds / max(1, state.step),
        "images_per_second": images / state.seconds,
        "sessions": state.sessions,
        "started": state.started,
        "ended": _now(),
    }  # fmt: skip


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
