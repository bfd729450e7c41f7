"""All runs in one tidy frame: one line for each run, and one for each line of their histories.

A file that is missing or damaged is a `UserError` that names it.
"""

import json
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from whysgd.errors import UserError
from whysgd.results.metrics import KEYS, MEASURED, check_file, read_metrics

# Where results come from.
FROM_TRAINING, FROM_RECORDS = "training", "records"
# What the page tells of a run beside its settings and results.
FACTS = ("data", "parameters", "code_digest", "versions", "device", "machine", "precision", "engine", "threads")
# What users name.
NAMES = (
    "paper", "run", "scale", "dataset", "model", "device", "measure", "quantity", "metric", "scope", "row", "column",
    "label", "baseline", "note", "file", "spec_digest", "weights_sha256",
)  # fmt: skip


def read_frame(file: str | Path) -> pd.DataFrame:
    """Return a frame or a table that was written as CSV. Only what is empty is missing, and a name stays what it is:
    it may be `NA` or `007`.
    """
    return pd.read_csv(file, dtype=dict.fromkeys(NAMES, str), keep_default_na=False, na_values=[""])


def read_runs(metrics_files: Iterable[str | Path], placed: bool = False) -> pd.DataFrame:
    """Return one line for each seed of each metrics.json.

    Among its columns are the final measures and, after `best_`, those of the selected evaluation, with its step and
    what it was selected on ("validation", the held-out images, or "test"); `settings` and `facts` as JSON; `source`,
    where the line comes from ("training" or "records"), and its `file`; and `older`, whether it is by code that may
    give other results than today's. What a run does not have is None.

    Args:
        metrics_files: as `whysgd.results.metrics.read_metrics` reads them.
        placed: each must lie in its run's folder.
    """
    return pd.DataFrame([run_line(one, file) for file in metrics_files for one in read_metrics(file, placed)])


def run_line(metrics: dict, file: str | Path) -> dict:
    """Return the line of one run; `file` is where its metrics come from."""
    try:
        return {
            **{key: metrics[key] for key in (*KEYS, "status", "steps", "parameters")},
            **{key: metrics["final"][key] for key in MEASURED},
            **{f"best_{key}": metrics["best"][key] for key in ("step", "selected_on", *MEASURED)},
            "dataset": metrics["data"]["label"],
            **{key: metrics["data"][key] for key in ("train_images", "held_out_images", "test_images")},
            "stored_copies": (metrics["settings"]["store"] or {"copies": 0})["copies"],
            "model": metrics["settings"]["model"],
            # As JSON, equal for runs that differ in name and seed alone.
            "settings": json.dumps({k: v for k, v in metrics["settings"].items() if k not in KEYS}, sort_keys=True),
            "facts": json.dumps({name: metrics.get(name) for name in FACTS}),
            **{key: metrics.get(key) for key in ("device", "spec_digest", "weights_sha256", "ended")},
            "file": str(file),
            "source": FROM_TRAINING,
            "older": False,
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file}: not the metrics of a run ({error!r})") from None


def read_histories(metrics_files: Iterable[str | Path], history_files: Iterable[str | Path]) -> pd.DataFrame:
    """Return every line of the histories, with the names of its run in front; what a line does not measure is NaN.

    Args:
        metrics_files, history_files: metrics.json and history.csv of the same runs, in the same order.
    """
    parts = []
    for metrics_file, history_file in zip(metrics_files, history_files, strict=True):
        first = read_metrics(metrics_file)[0]
        try:
            part = pd.read_csv(history_file)
        except (OSError, ValueError) as error:  # Pandas has its own for damaged files, all of them ValueErrors.
            raise UserError(f"{history_file}: not readable ({error})") from None
        check_file(first, Path(history_file))
        parts.append(pd.DataFrame({**{key: first[key] for key in KEYS if key != "seed"}, **part}))
    return pd.concat(parts, ignore_index=True)
