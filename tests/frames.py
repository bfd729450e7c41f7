"""Tidy frames and tables made by hand, as the workflow's files have them."""

import json

import numpy as np
import pandas as pd

from whysgd.measures.catalog import MEASURES
from whysgd.report.measures import COLUMNS

MEASURE_OF = {quantity: measure for measure, names in MEASURES.items() for quantity in names}


def runs_frame(values: dict, diverged=(), **other) -> pd.DataFrame:
    """Runs of paper p with seeds of the given test accuracies; `diverged` names those (run, seed) that did."""
    lines = [
        {"paper": "p", "run": run, "scale": "mini", "seed": seed, "status": "finished", "steps": 30, "parameters": 1234,
         "test_accuracy": accuracy, "train_accuracy": accuracy + 2, "best_test_accuracy": accuracy,
         "best_selected_on": "test", "dataset": "digits",
         "train_images": 5, "held_out_images": 0, "test_images": 6, "model": "m", "device": "cpu", "stored_copies": 0,
         "settings": json.dumps({"lr": run}), "facts": json.dumps({"device": "cpu"}), "spec_digest": "d",
         "weights_sha256": "w", "ended": "2026-01-01T00:00:01+00:00",
         "best_step": 123456, "file": f"runs/p/{run}/seeds-{seed}/metrics.json", "source": "training", "older": False, **({"status": "diverged"} if (run, seed) in diverged else {}), **other}
        for run, accuracies in values.items() for seed, accuracy in enumerate(accuracies)
    ]  # fmt: skip
    return pd.DataFrame(lines)


def measured(runs: pd.DataFrame, **quantities) -> pd.DataFrame:
    """What was measured of runs: numbers, or functions of a run's line; a diverged run has none."""
    lines = [
        {**{key: run[key] for key in ("paper", "run", "scale", "seed", "status")}, "measure": MEASURE_OF[name],
         "quantity": name, "std_error": 0.1, "samples": 4, "seconds": 2.0, "cpu_seconds": 1.5, "older": False,
         "value": np.nan if run.status == "diverged" else value(run) if callable(value) else value}
        for _, run in runs.iterrows() for name, value in quantities.items()
    ]  # fmt: skip
    return pd.DataFrame(lines, columns=COLUMNS)


def row(run, label, mean=None, std=None, column=None, **other) -> dict:
    """A laid-out row of a table, as `whysgd.study.layout` makes it."""
    return {"run": run, "row": run, "label": label, "column": column, "method": column or run, "metric": "test_accuracy",
            "mean": mean, "std": std, "gap": None, "published_gap": None, "planned": run is not None, "edited": False, **other}  # fmt: skip


def table_of(rows: list, columns=None, grid=None) -> dict:
    """A table, as `whysgd.study.papers.tables_at` has it."""
    return {"title": "T", "setting": "S", "finding": "", "columns": columns, "grid": grid, "gap": None, "rows": rows,
            "scaled": "", "as_published": True}  # fmt: skip


TABLE = table_of([row("a", "A", 95.0, 0.5), row("b", "B & co_1", 80.0), row("c", "C")])
CELLS = table_of(
    [row("a", "A", 95.0, column="X"), row("a.y", "A", 96.0, column="Y"), row("b", "B", 80.0, column="X"),
     row("b.y", "B", 81.0, column="Y")],
    {"x": {"label": "X"}, "y": {"label": "Y"}},
)  # fmt: skip


def seeded(values):
    """Lists of values as the values of seeds 0, 1, …"""
    return {run: dict(enumerate(own)) for run, own in values.items()}
