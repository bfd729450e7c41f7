"""What a run leaves behind: metrics.json, history.csv and model.safetensors."""

import csv
import io
import math
import platform
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

import whysgd
from whysgd.spec import RunSpec, epoch_images, steps_per_epoch
from whysgd.training.checkpoint import State

METRICS, HISTORY, MODEL = "metrics.json", "history.csv", "model.safetensors"
# step: optimizer steps made; epoch: the one the step belongs to, from 1; lr: η of the step. At the weights
# before the step, in training mode: step_loss (mean over blocks, nats), full_loss (with ½·weight_decay·‖θ‖² and
# the penalty's value), gradient_norm (L2, before clipping), clipped (0 or 1). At the weights after it, in
# evaluation mode: losses (nats) and accuracies (percent) on both splits; parameter_norm (L2).
HISTORY_COLUMNS = (
    "step", "epoch", "lr", "step_loss", "full_loss", "train_loss", "train_accuracy", "test_loss",
    "test_accuracy", "gradient_norm", "clipped", "parameter_norm",
)  # fmt: skip


def history_csv(rows: list[dict]) -> str:
    """The history as CSV, one line for each evaluation; floats as Python writes them, exactly."""
    text = io.StringIO()
    writer = csv.DictWriter(text, HISTORY_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def run_metrics(
    spec: RunSpec,
    state: State,
    manifest: dict,
    device: torch.device,
    code: str,
    diverged: bool,
    precision: str,
    engine: str,
    store_sha256: str | None = None,
) -> dict:
    """The content of metrics.json.

    Args:
        spec, state: the run and where it ended; its history has at least one line.
        manifest: of the data set.
        device: it was trained on.
        code: digest of the training code.
        diverged: whether it ended because the loss was not finite.
        precision, engine: in which and by which its steps were computed.
        store_sha256: of the stored copies it was trained on, if it was.

    Returns:
        final and best (highest test accuracy) loss and accuracy on both splits, in nats and percent, None
        where they are not finite; all settings; where, on what and with what it was trained; times.
    """
    measured = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
    final = state.history[-1]
    best = max(state.history, key=lambda row: row["test_accuracy"])
    images = manifest["train_images"]
    per_epoch = epoch_images(spec, images)
    per_epoch -= per_epoch % spec.block if spec.drop_last else 0
    passes = state.step / steps_per_epoch(spec, images)
    return {
        "paper": spec.paper,
        "run": spec.run,
        "scale": spec.scale,
        "seed": spec.seed,
        "status": "diverged" if diverged else "finished",
        "steps": state.step,
        "final": {key: _finite(final[key]) for key in measured},
        "best": {"step": best["step"], **{key: _finite(best[key]) for key in measured}},
        "parameters": len(state.theta),
        "settings": spec.to_dict(),
        "spec_digest": spec.digest,
        "data": {
            **{key: manifest[key] for key in ("name", "label", "sha256", "train_images", "test_images")},
            "store_sha256": store_sha256,
        },
        "code_digest": code,
        "versions": {"python": platform.python_version(), "whysgd": whysgd.__version__, **_versions()},
        "device": torch.cuda.get_device_name() if device.type == "cuda" else _processor(),
        "precision": precision,
        "engine": engine,
        "threads": torch.get_num_threads(),
        "seconds_per_step": state.seconds / max(1, state.step),
        "images_per_second": per_epoch * passes / state.seconds,
        "sessions": state.sessions,
        "started": state.started,
        "ended": now(),
    }


def _versions() -> dict[str, str]:
    """Of the packages that training uses, and of Snakemake where it is installed."""
    found = {}
    for package in ("torch", "numpy", "safetensors", "snakemake"):
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
