"""What is behind the numbers of the page: each run's settings, facts and history, small enough to be embedded in it."""

import json
import math
import os
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from whysgd.measures.catalog import QUANTITIES
from whysgd.report.frame import KEYS
from whysgd.report.measures import titled
from whysgd.study.settings import flat

# Of a history that is shown: points of a line, and significant digits of a number.
POINTS, DIGITS = 40, 5
CURVES = ("train_accuracy", "test_accuracy")
TEXTS = ("status", "spec_digest", "weights_sha256", "ended")


def provenance(
    runs: pd.DataFrame, histories: pd.DataFrame, measures: pd.DataFrame | None = None, folder: str | Path = "."
) -> dict:
    """Return everything that the page tells of a run, without NaN or infinity, so that it can be written as JSON.

    Args:
        runs, histories, measures: the frames of `read_runs`, `read_histories` and `read_measures`.
        folder: the page's, which paths are relative to.

    Returns:
        `runs`: by paper/run, a dict for each seed with its results, `file`, `history` (steps, training and test
        accuracies, of at most `POINTS` lines), `measures` ([value, standard error] of each of the `quantities`), and
        the places of its `settings` and `facts` in lists of flat entries, which runs share; `quantities`: their titles.
    """
    runs, shared = runs.sort_values("seed", kind="stable").astype(object), {}
    for name in ("settings", "facts"):
        runs[name], texts = pd.factorize(runs[name])
        shared[name] = [flat(json.loads(text)) for text in texts]
    courses = dict(list(histories.groupby(KEYS)))
    found = {} if measures is None else dict(list(measures.groupby(KEYS)))
    known = set() if measures is None else set(measures.quantity)
    quantities = {name: titled(name) for name in QUANTITIES if name in known}
    by_run: dict[str, list[dict]] = {}
    for run in runs.to_dict("records"):
        key = tuple(run[name] for name in KEYS)
        by_run.setdefault(f"{run['paper']}/{run['run']}", []).append({
            **{name: _text(run[name]) for name in TEXTS},
            "seed": run["seed"], "steps": run["steps"],
            "last": _number(run["test_accuracy"]), "train": _number(run["train_accuracy"]),
            "selected": _number(run["best_test_accuracy"]),
            "selected_on": _text(run["best_selected_on"]), "selected_step": int(run["best_step"]),
            "settings": run["settings"], "facts": run["facts"],
            "file": Path(os.path.relpath(run["file"], folder)).as_posix(),
            "history": _course(courses.get(key, histories[:0])),
            "measures": _measured(found.get(key), quantities),
        })  # fmt: skip
    return {"runs": by_run, **shared, "quantities": quantities}


def _text(value) -> str | None:
    return value if isinstance(value, str) else None


def _course(history: pd.DataFrame) -> list[list]:
    """Return steps and the accuracies at them: the first and the last that were measured, and some between."""
    measured = history.dropna(subset=list(CURVES), how="all")
    last, count = len(measured) - 1, min(POINTS, len(measured))
    shown = measured.iloc[[round(index * last / max(1, count - 1)) for index in range(count)]]
    return [shown.step.astype(int).tolist(), *([_number(value) for value in shown[name]] for name in CURVES)]


def _measured(lines: pd.DataFrame | None, quantities: Iterable[str]) -> list[list | None]:
    """Return [value, standard error] of each quantity; None where it was not measured."""
    if lines is None:
        return []
    found = {line.quantity: [_number(line.value), _number(line.std_error, 2)] for line in lines.itertuples()}
    return [found.get(name) for name in quantities]


def _number(value, digits: int = DIGITS) -> float | str | None:
    """Return a number with few digits; what JSON has no number for is None, or the text inf."""
    if value is None or math.isnan(value):
        return None
    return float(f"{value:.{digits}g}") if math.isfinite(value) else str(float(value))
