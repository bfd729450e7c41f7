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
from whysgd.training.device import device_name
from whysgd.training.trainer import Trainer


def run_metrics(spec: RunSpec, trainer: Trainer, manifest: dict, code: str, sources: dict, cpu_seconds: float) -> dict:
    """Return the metrics of a seed, as `whysgd.results.metrics.read_metrics` has them.

    Args:
        spec, trainer: the run and where and why it ended; its history has at least one line.
        manifest: of the data set.
        code: digest of the training code.
        sources: digests of what it was trained on: sha256 of the data set, store_sha256 of stored copies and
            reference_digest of grafted norms, the last two None where there are none.
        cpu_seconds: this seed's share of what its process has taken.

    Returns:
        final and best loss and accuracy on all splits, in nats and percent, None where they are not finite or there is
        no such split; best is the evaluation of highest accuracy on the held-out images, or, if there are none, on the
        test set, and `selected_on` says which; all settings; where, on what and with what it was trained; times.
    """
    state = trainer.state
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
        "device": device_name(trainer.device),
        "precision": trainer.precision,
        "engine": trainer.engine_used,
        "threads": torch.get_num_threads(),
        "seconds_per_step": state.seconds / max(1, state.step),
        "images_per_second": per_epoch * passes / state.seconds,
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
