"""What lies in a run's folder, and whether the run has come to its end; without torch, so that asking is cheap."""

import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from whysgd.data.canonical import MANIFEST
from whysgd.files import read_json, sha256_of
from whysgd.results.metrics import read_metrics
from whysgd.study.spec import RunSpec, total_steps, trained_images
from whysgd.training.norm_log import read_norms

METRICS, HISTORY, NORMS, MODEL = "metrics.json", "history.csv", "gradient_norms.csv", "model.safetensors"
# Of runs that measure their gradient noise, see `whysgd.training.noise_log`.
NOISE, LAYERS, NOISE_NORMS = "noise.csv", "layers.csv", "noise_norms.csv"
# Of runs that have not, see `whysgd.training.checkpoint`.
CHECKPOINT, PREVIOUS = "checkpoint.safetensors", "checkpoint.previous.safetensors"


def result_files(spec: RunSpec) -> list[str]:
    """What a run leaves in its folder."""
    return [METRICS, HISTORY, NORMS, MODEL, *((NOISE, LAYERS, NOISE_NORMS) if spec.noise else ())]


def finished_metrics(
    spec: RunSpec, out: Path, code: str, sources: Mapping[str, str | None], verify: bool = True
) -> dict | None:
    """The metrics of the same job, if it has been run to its end in its folder.

    Args:
        spec, out: the run and its folder.
        code: digest of the training code.
        sources: digests of what it is trained on, see `recorded_sources`.
        verify: read all files, and take a run whose files are not those that it wrote for unfinished.

    Raises:
        UserError: the metrics are not readable.
    """
    files = result_files(spec)
    if not all((out / file).is_file() for file in files):
        return None
    metrics = read_metrics(out / METRICS)
    data = metrics["data"]
    same = (metrics["spec_digest"], metrics.get("code_digest"), *(data.get(key) for key in sources))
    if same != (spec.digest, code, *sources.values()):
        return None
    if not verify:
        return metrics
    written = {MODEL: metrics.get("model_sha256"), **metrics.get("sha256", {})}
    if damaged := [name for name in files if name != METRICS and sha256_of(out / name) != written.get(name)]:
        print(f"{out / damaged[0]}: is not what the run wrote; training again", file=sys.stderr)
        return None
    return metrics


def recorded_sources(spec: RunSpec, data: Path) -> dict[str, str | None]:
    """Digests of what a run is trained on, as the files beside the data say; the data themselves are not read.

    Args:
        spec: the run.
        data: folder of its canonical data set.

    Raises:
        UserError: one of them is not there.
    """
    manifest, log = read_json(data / MANIFEST), reference_log(spec)
    images = trained_images(spec, manifest["train_images"])
    return source_digests(
        manifest,
        read_json(store_file(spec).with_suffix(".json")) if spec.store else None,
        read_norms(log, total_steps(spec, images)) if log else None,
    )


def source_digests(manifest: Mapping, store: Mapping | None, norms: np.ndarray | None) -> dict[str, str | None]:
    """What identifies a run's data set, stored copies and grafted norms (the last two None where there are none)."""
    return {
        "sha256": manifest["sha256"],
        "store_sha256": store and store["sha256"],
        "reference_digest": None if norms is None else hashlib.sha256(norms.tobytes()).hexdigest(),
    }


def saved_step(folder: Path) -> int | None:
    """The step of the newest checkpoint in a folder that can be read, or None; its checksum is not looked at."""
    for name in (CHECKPOINT, PREVIOUS):
        try:
            with safe_open(folder / name, "np") as file:
                return max(state["step"] for state in json.loads(file.metadata()["states"]))
        except (OSError, SafetensorError, ValueError, KeyError, TypeError):
            continue
    return None


def store_file(spec: RunSpec) -> Path:
    """Where the workflow puts the stored copies of a run that has such."""
    return Path("results/stores", spec.dataset, f"{spec.store.name}.lmdb")


def reference_log(spec: RunSpec) -> Path | None:
    """Where the workflow puts the log that a run grafts from, if it does: that of the same seed."""
    if spec.transform is None or spec.transform.reference is None:
        return None
    return Path(f"results/{spec.scale}/runs/{spec.paper}/{spec.transform.reference}/seed-{spec.seed}", NORMS)
