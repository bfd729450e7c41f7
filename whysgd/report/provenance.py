"""What is behind the numbers of the page: every run's records and history, small enough to be embedded in it."""

import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from whysgd.errors import UserError
from whysgd.files import read_json
from whysgd.measures.catalog import QUANTITIES
from whysgd.report.frame import KEYS
from whysgd.report.measures import titled
from whysgd.results.metrics import split
from whysgd.study.settings import flat

# Of a history that is shown: points of a line, and significant digits of a number.
POINTS, DIGITS = 40, 5
CURVES = ("train_accuracy", "test_accuracy")
FACTS = ("data", "parameters", "code_digest", "versions", "device", "machine", "precision", "engine", "threads")


def provenance(
    metrics_files: Iterable[str | Path],
    histories: pd.DataFrame,
    measures: pd.DataFrame | None = None,
    folder: str | Path = ".",
) -> dict:
    """Return everything that the page tells of a run, without NaN or infinity, so that it can be written as JSON.

    Args:
        metrics_files: metrics.json, or the record, of every run.
        histories, measures: the frames of `read_histories` and `read_measures`.
        folder: the page's, which paths are relative to.

    Returns:
        `runs`: by paper/run, a dict for each seed with its results, `file`, `history` (steps, training and test
        accuracies, of at most `POINTS` lines), `measures` ([value, standard error] of each of the `quantities`), and
        the places of its `settings` and `facts` in lists of flat entries, which runs share; `quantities`: their titles.

    Raises:
        UserError: a file is missing or damaged; the message names it.
    """
    # By their texts, the entries with their places: there may be thousands.
    settings: dict[str, tuple[int, dict]] = {}
    facts: dict[str, tuple[int, dict]] = {}
    courses = dict(list(histories.groupby(KEYS)))
    found = {} if measures is None else dict(list(measures.groupby(KEYS)))
    known = set() if measures is None else set(measures.quantity)
    quantities = {name: titled(name) for name in QUANTITIES if name in known}
    runs: dict[str, list[dict]] = {}
    for file in metrics_files:
        try:
            for metrics in _metrics_in(file):
                key = tuple(metrics[name] for name in KEYS)
                seed = {
                    **{name: metrics[name] for name in ("seed", "status", "steps", "spec_digest", "started", "ended")},
                    "last": _number(metrics["final"]["test_accuracy"]),
                    "train": _number(metrics["final"]["train_accuracy"]),
                    "selected": _number(metrics["best"]["test_accuracy"]), "selected_step": metrics["best"]["step"],
                    "selected_on": metrics["best"]["selected_on"],
                    "weights_sha256": metrics.get("weights_sha256"),
                    "settings": _place(settings, {k: v for k, v in metrics["settings"].items() if k not in KEYS}),
                    "facts": _place(facts, {name: metrics.get(name) for name in FACTS}),
                    "file": Path(os.path.relpath(file, folder)).as_posix(),
                    "history": _course(courses.get(key, histories[:0])),
                    "measures": _measured(found.get(key), quantities),
                }  # fmt: skip
                runs.setdefault(f"{metrics['paper']}/{metrics['run']}", []).append(seed)
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{file}: not the metrics of a run ({error!r})") from None
    for seeds in runs.values():
        seeds.sort(key=lambda seed: seed["seed"])
    shared = {name: [one for _, one in own.values()] for name, own in (("settings", settings), ("facts", facts))}
    return {"runs": runs, **shared, "quantities": quantities}


def _metrics_in(file: str | Path) -> list[dict]:
    """Return the metrics of the one seed of a record, or of each seed of a batch."""
    content = read_json(file)
    return [content["metrics"]] if "metrics" in content else split(content)


def _place(entries: dict[str, tuple[int, dict]], entry: Mapping) -> int:
    """Return the place of an entry, made flat, among others; it is added if it is new."""
    entry = flat(entry)
    return entries.setdefault(repr(entry), (len(entries), entry))[0]


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
