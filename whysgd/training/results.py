"""What a batch of seeds leaves behind: metrics, history, gradient norms, weights and logs of the gradient noise."""

import math
import platform
import resource
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from safetensors.torch import save_file

import whysgd
from whysgd.files import csv_text, sha256_of, write_atomically, write_json, write_text
from whysgd.results import metrics as saved_metrics
from whysgd.results.paths import BEST, HISTORY, METRICS, MODEL, NORMS
from whysgd.study.length import epoch_images, micro_batches_per_epoch, trained_images
from whysgd.study.spec import RunSpec
from whysgd.training.checkpoint import HISTORY_COLUMNS, State, tensors_digest
from whysgd.training.device import device_name
from whysgd.training.noise_log import noise_files
from whysgd.training.norm_log import norms_csv


def finished_metrics(specs: Sequence[RunSpec], out: Path, code: str, sources: Mapping) -> list[dict] | None:
    """Return the metrics of the same batch if it has been trained to its end and its files are those that it wrote.

    Args:
        specs, out: the seeds and their folder.
        code: digest of the training code.
        sources: digests of what they are trained on.
    """
    if not (out / METRICS).is_file():
        return None
    metrics = saved_metrics.read_metrics(out / METRICS)
    wanted = [(spec.digest, code) for spec in specs]
    if [(one["spec_digest"], one["code_digest"]) for one in metrics] != wanted:
        return None
    if not sources.items() <= metrics[0]["data"].items():
        return None
    for name, digest in metrics[0]["sha256"].items():
        if not (out / name).is_file() or sha256_of(out / name) != digest:
            print(f"{out / name}: is not what the run wrote; training again", file=sys.stderr)
            return None
    return metrics


def write_results(trainer, manifest: Mapping, out: Path, code: str, sources: Mapping, cpu_seconds: float) -> list[dict]:
    """Write the results of seeds that have ended and return their metrics.

    Args:
        trainer: the `whysgd.training.loop.Trainer` that made their steps.
        manifest: of the data set.
        out: their folder.
        code: digest of the training code.
        sources: digests of what they were trained on: sha256 of the data set, store_sha256 of stored copies and
            reference_digest of grafted norms, the last two None where there are none.
        cpu_seconds: what the process has taken.
    """
    states = {spec.seed: state for spec, state in zip(trainer.specs, trainer.states, strict=True)}
    weights = {seed: trainer.tensors(state) for seed, state in states.items()}
    best = {seed: trainer.tensors(state, best=True) for seed, state in states.items() if state.best}
    for file, tensors in ((MODEL, weights), (BEST, best)):
        named = {f"{seed}/{name}": tensor for seed, own in tensors.items() for name, tensor in own.items()}
        write_atomically(out / file, lambda path, named=named: save_file(named, path))
    history = [{"seed": seed, **line} for seed, state in states.items() for line in state.history]
    texts = {
        HISTORY: csv_text(("seed", *HISTORY_COLUMNS), history),
        NORMS: norms_csv({seed: state.norms[: state.step].tolist() for seed, state in states.items()}),
        **noise_files({seed: state.noise for seed, state in states.items()}),
    }
    for name, text in texts.items():
        write_text(out / name, text)
    common = {
        "code_digest": code, "device": device_name(trainer.device), "machine": trainer.machine,
        "precision": trainer.precision, "engine": trainer.engine_used, "cpu_seconds": cpu_seconds / len(states),
    }  # fmt: skip
    metrics = [
        {**run_metrics(spec, states[spec.seed], manifest, sources, best_of(trainer, states[spec.seed])), **common,
         "weights_sha256": tensors_digest(weights[spec.seed])}
        for spec in trainer.specs
    ]  # fmt: skip
    content = saved_metrics.joined(metrics, {name: sha256_of(out / name) for name in (*texts, MODEL, BEST)})
    write_json(out / METRICS, content)
    return saved_metrics.split(content)


def best_of(trainer, state: State) -> dict:
    """Return the step, losses and accuracies of the selected step, or, for a run without one, of the evaluation of
    highest test accuracy.
    """
    if state.best:
        return {"step": state.selected["step"], **trainer.measured(**state.best)}
    evaluations = [row for row in state.history if row["test_accuracy"] is not None]
    return max(evaluations, key=lambda row: row["test_accuracy"])


def run_metrics(spec: RunSpec, state: State, manifest: Mapping, sources: Mapping, best: Mapping) -> dict:
    """Return the metrics of a seed, apart from what is known of its training as a whole.

    Args:
        spec, state: the run and where and why it ended; its history has at least one line.
        manifest, sources: as for `write_results`.
        best: of `best_of`.

    Returns:
        final and best loss and accuracy on all splits, in nats and percent, None where they are not finite or there is
        no such split; best is the step of highest accuracy on the held-out images, or, if there are none, the
        evaluation of highest test accuracy, and `selected_on` says which; all settings; on what and with what it was
        trained; times.
    """
    splits = ("train", "validation", "test")
    measured = tuple(f"{split}_{measure}" for split in splits for measure in ("loss", "accuracy"))
    final = state.history[-1]
    selected_on = "validation" if spec.held_out else "test"
    images = trained_images(spec, manifest["train_images"])
    per_epoch = epoch_images(spec, images)
    per_epoch -= per_epoch % spec.micro_batch if spec.drop_last else 0
    passes = state.micro_batches / micro_batches_per_epoch(spec, images)
    return {
        "paper": spec.paper,
        "run": spec.run,
        "scale": spec.scale,
        "seed": spec.seed,
        "status": "diverged" if state.ended == "diverged" else "finished",
        "stopped_at_accuracy": spec.stop_accuracy if state.ended == "stopped" else None,
        "steps": state.step,
        "final": {key: _finite(final[key]) for key in measured},
        "best": {"step": best["step"], "selected_on": selected_on, **{key: _finite(best.get(key)) for key in measured}},
        "parameters": len(state.theta),
        "settings": spec.to_dict(),
        "spec_digest": spec.digest,
        "data": {
            **{key: manifest[key] for key in ("name", "label", "test_images")},
            "train_images": images,
            "held_out_images": manifest["train_images"] - images,
            **sources,
        },
        "versions": {"python": platform.python_version(), "whysgd": whysgd.__version__, **versions()},
        "threads": torch.get_num_threads(),
        "seconds_per_step": state.seconds / max(1, state.step),
        "images_per_second": per_epoch * passes / state.seconds,
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        / (2**20 if sys.platform == "darwin" else 2**10),
        "sessions": state.sessions,
        "started": state.started,
        "ended": now(),
    }


def versions() -> dict[str, str]:
    """Return the versions of the packages that training uses, and of Snakemake where it is installed."""
    found = {}
    for package in ("torch", "numpy", "safetensors", "snakemake"):
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def now() -> str:
    """Return the time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
