"""What a run leaves behind: metrics.json, history.csv, gradient_norms.csv and model.safetensors."""

import math
import platform
import resource
import sys
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

import torch

import whysgd
from whysgd.study.spec import RunSpec, epoch_images, steps_per_epoch, trained_images
from whysgd.training.checkpoint import State
from whysgd.training.device import device_name

# step: optimizer steps made; epoch: the one the step belongs to, from 1; lr: η of the step. At the weights
# before the step, in training mode: step_loss (mean over blocks, nats), full_loss (with ½·weight_decay·‖θ‖² and
# the penalty's value), penalty (its value, nats), gradient_norm (L2, penalty included, before any transform),
# clipped (0 or 1), micro_batch_norm2 (mean over drawn micro-batches of ‖∇L_B‖², for runs that watch it). step_length:
# L2, of the step made. At the weights after it, in evaluation mode: losses (nats) and accuracies (percent) on all
# splits, empty on lines without an evaluation; parameter_norm (L2).
HISTORY_COLUMNS = (
    "step", "epoch", "lr", "step_loss", "full_loss", "penalty", "gradient_norm", "clipped", "step_length",
    "micro_batch_norm2", "parameter_norm", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy",
    "test_loss", "test_accuracy",
)  # fmt: skip


def run_metrics(
    spec: RunSpec,
    state: State,
    manifest: dict,
    device: torch.device,
    code: str,
    precision: str,
    engine: str,
    sources: dict,
    together: int = 1,
    cpu_seconds: float = 0.0,
) -> dict:
    """The content of metrics.json.

    Args:
        spec, state: the run and where and why it ended; its history has at least one line.
        manifest: of the data set.
        device: it was trained on.
        code: digest of the training code.
        precision, engine: in which and by which its steps were computed.
        sources: digests of what it was trained on: sha256 of the data set, store_sha256 of stored copies and
            reference_digest of grafted norms, the last two None where there are none.
        together: how many runs were trained in lockstep; times are a run's share.
        cpu_seconds: this run's share of what its process has taken.

    Returns:
        final and best loss and accuracy on all splits, in nats and percent, None where they are not finite or there is
        no such split; best is the evaluation of highest accuracy on the held-out images, or, if there are none, on the
        test set, and `selected_on` says which; all settings; where, on what and with what it was trained; times.
    """
    splits = ("train", "validation", "test")
    measured = tuple(f"{split}_{measure}" for split in splits for measure in ("loss", "accuracy"))
    final = state.history[-1]
    selected_on = "validation" if spec.held_out else "test"
    evaluations = [row for row in state.history if row["test_accuracy"] is not None]
    best = max(evaluations, key=lambda row: row[f"{selected_on}_accuracy"])
    images = trained_images(spec, manifest["train_images"])
    per_epoch = epoch_images(spec, images)
    per_epoch -= per_epoch % spec.block if spec.drop_last else 0
    passes = state.step / steps_per_epoch(spec, images)
    return {
        "paper": spec.paper,
        "run": spec.run,
        "scale": spec.scale,
        "seed": spec.seed,
        "status": "diverged" if state.ended == "diverged" else "finished",
        "stopped_at_accuracy": spec.stop_accuracy if state.ended == "stopped" else None,
        "steps": state.step,
        "final": {key: _finite(final[key]) for key in measured},
        "best": {"step": best["step"], "selected_on": selected_on, **{key: _finite(best[key]) for key in measured}},
        "parameters": len(state.theta),
        "settings": spec.to_dict(),
        "spec_digest": spec.digest,
        "data": {
            **{key: manifest[key] for key in ("name", "label", "test_images")},
            "train_images": images,
            "held_out_images": manifest["train_images"] - images,
            **sources,
        },
        "code_digest": code,
        "versions": {"python": platform.python_version(), "whysgd": whysgd.__version__, **versions()},
        "device": device_name(device),
        "precision": precision,
        "engine": engine,
        "threads": torch.get_num_threads(),
        "trained_together": together,
        "seconds_per_step": state.seconds / max(1, state.step),
        "images_per_second": per_epoch * passes / state.seconds,
        # Of this process, which Snakemake's own measurement does not see if it was forked for the job.
        "cpu_seconds": cpu_seconds,
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        / (2**20 if sys.platform == "darwin" else 2**10),
        "sessions": state.sessions,
        "started": state.started,
        "ended": now(),
    }


def versions() -> dict[str, str]:
    """Of the packages that training uses, and of Snakemake where it is installed."""
    found = {}
    for package in ("torch", "numpy", "safetensors", "snakemake"):
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
