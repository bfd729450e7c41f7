"""Records: what finished runs measured, small enough to keep in the repository.

A record is one JSON file, records/<scale>/<paper>/<run>/seed-<n>.json: the metrics of a seed with its provenance
(settings, data sha256, code digest, versions, device), its measures, and in short its history, its gradient noise and
the landscapes around it, as far as it has them. Weights are not in it. `whysgd.results.record_model` says what is
where.
"""

import json
import math
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from whysgd.errors import UserError
from whysgd.files import write_text
from whysgd.measures.catalog import LANDSCAPE_COLUMNS, LANDSCAPES
from whysgd.results import paths
from whysgd.results.metrics import check_file, read_measured, read_metrics, with_checksum
from whysgd.results.record_model import FORMAT, FROM_RUN, read_record
from whysgd.results.recorded import parts_of
from whysgd.study.changes import different_settings
from whysgd.study.spec import RunSpec

HISTORY_KEPT = (
    "step", "step_loss", "gradient_norm", "penalty", "step_length", "micro_batch_norm2", "train_loss", "train_accuracy",
    "validation_accuracy", "test_loss", "test_accuracy",
)  # fmt: skip
# Lines with accuracies or of the noise, lines with micro-batch norms, measured steps of the layers' norms, norms of
# mini-batches, and significant digits (few of them for noise, layers, norms and landscapes) that are kept, at most:
# they are for curves, and the final numbers are in the metrics.
LINES, NORM_LINES, LAYER_STEPS, MINI_BATCHES, DIGITS, FEW_DIGITS = 40, 40, 16, 200, 6, 4
# Of the noise of the test set.
OF_TEST = ("test_tail_index", "test_noise_norm2")
# Of the first steps the record keeps the gradient norms, so that a run that is made again can be compared early.
FIRST_STEPS = 16
LANDSCAPE_NUMBERS = [name for name in LANDSCAPE_COLUMNS if name not in ("paper", "run", "seed", "kind")]


def records_of(folder: Path, measures: Path | None = None, landscapes: Path | None = None) -> list[dict]:
    """Return the record of each seed of a finished batch, as `whysgd.results.record_model.Record` describes it.

    Args:
        folder: of the batch.
        measures: folder of its measures; None takes measures/ in the folder of the batch.
        landscapes: folder of the points of its landscapes; None if there are none.

    Raises:
        UserError: the run is not finished, a file is damaged, or a measure is of other settings.
    """
    every = read_metrics(folder / paths.METRICS)
    names = (paths.HISTORY, paths.NORMS, paths.NOISE, paths.LAYERS, paths.NOISE_NORMS)
    for name in names:
        check_file(every[0], folder / name)
    taken = _measures(measures or folder / "measures", folder, {metrics["seed"]: metrics for metrics in every})
    tables = {name: _table(folder / name) for name in names}
    points = {kind: _landscapes(landscapes, kind, folder) for kind in LANDSCAPES if landscapes}
    records = []
    for metrics in every:
        seed = metrics["seed"]
        lines = {name: table[table.seed == seed] for name, table in tables.items()}
        content = {"format": FORMAT, "metrics": metrics, "measures": taken.get(seed, {})}
        content["history"] = _history(lines[paths.HISTORY], metrics["settings"]["evaluations"])
        content["norms"] = columns_of(lines[paths.NORMS].head(FIRST_STEPS), ("step", "gradient_norm"))
        if len(lines[paths.NOISE]):
            planned = metrics["settings"]["noise"]["points"] + 2  # with the start and the end
            content["noise"] = _noise(lines[paths.NOISE], planned)
            content["layers"] = _layers(lines[paths.LAYERS], planned)
            content["noise_norms"] = _noise_norms(lines[paths.NOISE_NORMS])
        drawn = {kind: own[seed] for kind, own in points.items() if seed in own}
        records.append(with_checksum({**content, **({"landscapes": drawn} if drawn else {})}))
    return records


def _measures(place: Path, folder: Path, metrics: Mapping[int, Mapping]) -> dict[int, dict[str, dict]]:
    """The results of measures in a folder, by seed and name."""
    taken: dict[int, dict[str, dict]] = {}
    for file in sorted(place.glob("*.json")):
        for result in read_measured(file):
            if result.get("seed") not in metrics:
                raise UserError(f"{file}: not the result of a measure of {folder}")
            own = metrics[result["seed"]]
            if any(result.get(key) != own.get(key) for key in ("spec_digest", "weights_sha256")):
                raise UserError(f"{file}: is of other settings or weights than {folder}; measure the run again")
            # What the run's metrics say is not said again.
            kept = {key: value for key, value in result.items() if key not in FROM_RUN or value != own.get(key)}
            if kept.get("versions", {}).items() <= own["versions"].items():
                kept.pop("versions", None)
            taken.setdefault(result["seed"], {})[result["measure"]] = kept
    return taken


def _table(*files: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """The lines of CSV files of the same columns, of all or of these."""
    lines = []
    for file in files:
        try:
            content = file.read_bytes()
            if not content.endswith(b"\n") or len({line.count(b",") for line in content.splitlines()}) > 1:
                raise ValueError("some lines are cut short")
            lines.append(pd.read_csv(file, usecols=columns, dtype=dict.fromkeys(LANDSCAPE_NUMBERS, float)))
        except (OSError, ValueError) as error:
            raise UserError(f"{file}: not readable ({error})") from None
    return pd.concat(lines)


def columns_of(lines: pd.DataFrame, names: Iterable[str], digits: int = DIGITS) -> dict[str, list]:
    """Return columns of a table, by name, as records have them; those without any number are left out."""
    kept = [name for name in names if lines[name].notna().any()]
    return {name: [one if name == "layer" else _rounded(one, digits) for one in lines[name]] for name in kept}


def _shared(steps: list, planned: int, most: int) -> list:
    """Every k-th of a seed's steps and its last, so many at most of those planned: seeds that end early keep the same
    ones as the others.
    """
    return steps[:: -(-planned // (most - 1))] + steps[-1:]


def _spread(items: list, most: int) -> list:
    """So many of them at most, evenly spread from the first to the last."""
    parts = min(most, len(items))
    return [items[round(i * (len(items) - 1) / max(1, parts - 1))] for i in range(parts)]


def _history(lines: pd.DataFrame, planned: int) -> dict[str, list]:
    """Lines with accuracies; and lines with micro-batch norms, half of them from the first tenth of the run.

    `planned`: how many lines with accuracies a run has that does not end early; seeds that do keep the same ones.
    """
    evaluated, normed = (list(lines.step[lines[name].notna()]) for name in ("test_accuracy", "micro_batch_norm2"))
    early = [step for step in normed if step <= lines.step.max() / 10]
    kept = _shared(evaluated, planned, LINES)
    kept += _spread(early, NORM_LINES // 2) + _spread([step for step in normed if step not in early], NORM_LINES // 2)
    return columns_of(lines[lines.step.isin(kept)], HISTORY_KEPT)


def all_columns(folder: Path, name: str, seed: int) -> dict[str, list]:
    """A whole table of a seed (history, gradient_norms, noise, layers), with the digits that records keep."""
    lines = _table(folder / f"{name}.csv")
    return columns_of(lines[lines.seed == seed], lines.columns.drop("seed"), digits_of(name))


def digits_of(table: str) -> int:
    """Return how many significant digits a record keeps of the numbers of a table (history, noise, layers, norms)."""
    return FEW_DIGITS if table in ("layers", "noise") else DIGITS


def _noise(lines: pd.DataFrame, planned: int) -> dict[str, list]:
    """Some of the measured steps; of the test set's noise the index and the size."""
    kept = lines[lines.step.isin(_shared(list(lines.step), planned, LINES))]
    names = [name for name in lines.columns.drop("seed") if name in OF_TEST or not name.startswith("test_")]
    return columns_of(kept, names, FEW_DIGITS)


def _layers(lines: pd.DataFrame, planned: int) -> dict[str, list]:
    """Some of the measured steps, of the layers' weights: biases are not drawn."""
    weights = lines[lines.layer.str.endswith("weight")]
    kept = weights[weights.step.isin(_shared(list(weights.step.unique()), planned, LAYER_STEPS))]
    return columns_of(kept, ("step", "layer", "weight_norm", "gradient_norm"), FEW_DIGITS)


def _noise_norms(lines: pd.DataFrame) -> dict[str, list]:
    """The first and the last measured step of the training images: all norms in order of size, or as many quantiles."""
    kept = []
    lines = lines[lines["split"] == "train"].sort_values(["step", "noise_norm"])
    for end in dict.fromkeys((lines.step.min(), lines.step.max())):
        own = lines.index[lines.step == end]
        parts = min(MINI_BATCHES, len(own))
        kept += [own[int((i + 0.5) * len(own) / parts)] for i in range(parts)]
    return columns_of(lines.loc[kept], ("step", "noise_norm"), FEW_DIGITS)


def _landscapes(folder: Path, kind: str, run: Path) -> dict[int, dict[str, list]]:
    """The points of each seed's landscape from its parts, the newest set of those that are whole."""
    sets: dict[int, dict[int, Path]] = {}
    for file in folder.glob(f"{kind}_*-of-*.csv"):
        if match := re.fullmatch(rf"{kind}_(\d+)-of-(\d+)\.csv", file.name):
            sets.setdefault(int(match[2]), {})[int(match[1])] = file
    whole = [list(map(parts.get, range(of))) for of, parts in sets.items() if set(parts) == set(range(of))]
    if not whole:
        return {}
    files = max(whole, key=lambda parts: min(file.stat().st_mtime_ns for file in parts))
    trained = (run / paths.METRICS).stat().st_mtime_ns
    if old := [file for file in files if file.stat().st_mtime_ns < trained]:
        raise UserError(f"{old[0]}: is older than {run}; measure the landscape again")
    points = _table(*files, columns=["seed", *LANDSCAPE_NUMBERS])
    return {seed: columns_of(own, LANDSCAPE_NUMBERS, FEW_DIGITS) for seed, own in points.groupby("seed")}


def _rounded(number: float, digits: int) -> float | int | None:
    if not math.isfinite(number):
        return None
    return int(number) if number == int(number) and abs(number) < 1e15 else float(f"{number:.{digits}g}")


def write_records(folders: Iterable[Path], measures: Path | None = None, root: Path = paths.RECORDS) -> list[Path]:
    """Write the records of the finished batches in these folders and return their files.

    `measures` is the folder of their measures; None takes the workflow's, or measures/ in the folder of the batch.

    Raises:
        UserError: as `records_of`; or there is a record already that is damaged or of other settings. Then none is
            written.
    """
    new: dict[Path, tuple[dict, Path]] = {}
    for folder in map(Path, folders):
        every = read_metrics(folder / paths.METRICS)
        names = [every[0][key] for key in ("scale", "paper", "run")]
        batch = [metrics["seed"] for metrics in every]
        place, points = measures or paths.measures_folder(*names, batch), paths.landscape_folder(*names, batch)
        for record in records_of(folder, place if place.is_dir() else None, points if points.is_dir() else None):
            new[root / paths.record_file(*names, record["metrics"]["seed"])] = record, folder
    for path, (record, folder) in new.items():
        if path.is_file():
            _check_replaced(path, record, folder)
    for path, (record, _) in new.items():
        write_text(path, as_text(record))
    return list(new)


def _check_replaced(path: Path, new: dict, folder: Path) -> None:
    """Refuse to replace a record that is damaged or of other settings, and tell what the new one lacks."""
    try:
        old = read_record(path)
    except UserError as error:
        raise UserError(f"{error}; remove the record to replace it") from None
    now = RunSpec.from_dict(new["metrics"]["settings"]).to_dict()
    if different := different_settings(old["metrics"]["settings"], now):
        key, (before, after) = next(iter(different.items()))
        values = f"{key} = {before}, which {folder} has as {after}"
        raise UserError(f"{path}: is of {values}; remove the record to replace it")
    if lost := set(parts_of(old)) - set(parts_of(new)):
        print(f"{path}: has no {', '.join(sorted(lost))} any more: {folder} has none", file=sys.stderr)


def as_text(record: dict) -> str:
    """JSON with a line for each entry of the first two levels: small, and fit for a diff."""

    def short(value):
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)

    lines = []
    for key, value in record.items():
        if isinstance(value, dict):
            inner = ",\n  ".join(f"{short(name)}: {short(one)}" for name, one in value.items())
            lines.append(f"{short(key)}: {{\n  {inner}\n }}" if value else f"{short(key)}: {{}}")
        else:
            lines.append(f"{short(key)}: {short(value)}")
    return "{\n " + ",\n ".join(lines) + "\n}\n"
