"""Records: what finished runs measured, small enough to keep in the repository.

A record is one JSON file, records/<scale>/<paper>/<run>/seed-<n>.json: the metrics of a seed with its provenance
(settings, data sha256, code digest, versions, device), its measures, and in short its history, its gradient noise and
the landscapes around it, as far as it has them. Weights are not in it. `whysgd.results.record_model` says what is
where.
"""

import csv
import json
import math
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from whysgd.errors import UserError
from whysgd.files import read_json, write_text
from whysgd.measures.catalog import LANDSCAPE_COLUMNS, LANDSCAPES
from whysgd.results.metrics import check_file, is_unchanged, problem_of, read_measured, read_metrics, with_checksum
from whysgd.results.paths import (
    HISTORY,
    LAYERS,
    METRICS,
    NOISE,
    NOISE_NORMS,
    NORMS,
    RECORDS,
    landscape_folder,
    measures_folder,
    record_file,
)
from whysgd.results.record_model import Record
from whysgd.results.recorded import parts_of
from whysgd.study.spec import RunSpec
from whysgd.study.validation import checked

FORMAT = 2
HISTORY_KEPT = (
    "step", "step_loss", "gradient_norm", "penalty", "step_length", "micro_batch_norm2", "train_loss", "train_accuracy",
    "validation_accuracy", "test_loss", "test_accuracy",
)  # fmt: skip
# Lines with accuracies, lines with micro-batch norms, measured steps of the layers' norms, norms of mini-batches, and
# significant digits (few of them for noise, layers, norms and landscapes) that are kept, at most: they are for curves,
# and the final numbers are in the metrics. The noise keeps all of its steps: seeds that end at different ones have the
# others in common.
LINES, NORM_LINES, LAYER_STEPS, MINI_BATCHES, DIGITS, FEW_DIGITS = 40, 40, 16, 200, 6, 4
# Of the noise of the test set.
OF_TEST = ("test_tail_index", "test_noise_norm2")
# Of the first steps the record keeps the gradient norms, so that a run that is made again can be compared early.
FIRST_STEPS = 16
# What a measure's result has from its run.
FROM_RUN = ("paper", "run", "scale", "seed", "status", "spec_digest", "weights_sha256", "device", "threads")
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
    every = read_metrics(folder / METRICS)
    names = (HISTORY, NORMS, NOISE, LAYERS, NOISE_NORMS)
    for name in names:
        check_file(every[0], folder / name)
    taken = _measures(measures or folder / "measures", folder, {metrics["seed"]: metrics for metrics in every})
    tables = {name: _by_seed(folder / name) for name in names}
    points = {kind: _landscapes(landscapes, kind, folder) for kind in LANDSCAPES if landscapes}
    records = []
    for metrics in every:
        seed = metrics["seed"]
        lines = {name: table.get(str(seed), []) for name, table in tables.items()}
        content = {"format": FORMAT, "metrics": metrics, "measures": taken.get(seed, {})}
        content["history"] = _history(folder / HISTORY, lines[HISTORY], metrics["settings"]["evaluations"])
        content["norms"] = _columns(folder / NORMS, lines[NORMS][:FIRST_STEPS], ("step", "gradient_norm"))
        for name, columns in ((NOISE, _noise), (LAYERS, _layers), (NOISE_NORMS, _noise_norms)):
            if lines[name]:
                content[Path(name).stem] = columns(folder / name, lines[name])
        drawn = {kind: own[str(seed)] for kind, own in points.items() if str(seed) in own}
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
            taken.setdefault(result["seed"], {})[result["measure"]] = _without_run(result, own)
    return taken


def _without_run(result: dict, metrics: Mapping) -> dict:
    """A measure's result without what its run's metrics say."""
    own = {key: value for key, value in result.items() if key not in FROM_RUN or value != metrics.get(key)}
    if own.get("versions", {}).items() <= metrics["versions"].items():
        own.pop("versions", None)
    return own


def _by_seed(file: Path) -> dict[str, list[dict[str, str]]]:
    """The lines of a CSV file by their seed, which they lose."""
    try:
        found: dict[str, list] = {}
        with open(file, encoding="utf-8", newline="") as opened:
            for line in csv.DictReader(opened):
                if None in line or None in line.values():
                    raise ValueError("some lines are cut short")
                found.setdefault(line.pop("seed"), []).append(line)
        return found
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise UserError(f"{file}: not readable ({error})") from None


def _columns(file: Path, lines: list[dict], names: Iterable[str], digits: int = DIGITS) -> dict[str, list]:
    """Columns of a CSV file, by name; those without any number are left out."""
    try:
        kept = [name for name in names if any(line[name] for line in lines)]
        return {
            name: [line[name] if name == "layer" else _rounded(line[name], digits) for line in lines] for name in kept
        }
    except (KeyError, ValueError) as error:
        raise UserError(f"{file}: not readable ({error!r})") from None


def _spread(items: list, most: int) -> list:
    """So many of them at most, evenly spread from the first to the last."""
    parts = min(most, len(items))
    return [items[round(i * (len(items) - 1) / max(1, parts - 1))] for i in range(parts)]


def _history(file: Path, lines: list[dict], planned: int) -> dict[str, list]:
    """Lines with accuracies; and lines with micro-batch norms, half of them from the first tenth of the run.

    `planned`: how many lines with accuracies a run has that does not end early; seeds that do keep the same ones.
    """
    try:
        steps = [int(line["step"]) for line in lines]
        evaluated = [step for step, line in zip(steps, lines, strict=True) if line["test_accuracy"]]
        normed = [step for step, line in zip(steps, lines, strict=True) if line["micro_batch_norm2"]]
    except (KeyError, ValueError) as error:
        raise UserError(f"{file}: not readable ({error!r})") from None
    early = [step for step in normed if step <= max(steps) / 10]
    kept = evaluated[:: -(-planned // LINES)] + evaluated[-1:]
    kept += _spread(early, NORM_LINES // 2) + _spread([step for step in normed if step not in early], NORM_LINES // 2)
    chosen = [line for step, line in zip(steps, lines, strict=True) if step in set(kept)]
    return _columns(file, chosen, HISTORY_KEPT)


def all_columns(folder: Path, name: str, seed: int) -> dict[str, list]:
    """A whole table of a seed (history, gradient_norms, noise, layers), with the digits that records keep."""
    lines = _by_seed(folder / f"{name}.csv").get(str(seed), [])
    digits = FEW_DIGITS if name in ("layers", "noise") else DIGITS
    return _columns(folder / name, lines, lines[0], digits) if lines else {}


def _noise(file: Path, lines: list[dict]) -> dict[str, list]:
    """All measured steps; of the test set's noise the index and the size."""
    names = [name for name in lines[0] if name in OF_TEST or not name.startswith("test_")]
    return _columns(file, lines, names, FEW_DIGITS)


def _layers(file: Path, lines: list[dict]) -> dict[str, list]:
    """Some of the measured steps, of the layers' weights: biases are not drawn."""
    weights = [line for line in lines if line.get("layer", "").endswith("weight")]
    steps = set(_spread(list(dict.fromkeys(line.get("step") for line in weights)), LAYER_STEPS))
    kept = [line for line in weights if line.get("step") in steps]
    return _columns(file, kept, ("step", "layer", "weight_norm", "gradient_norm"), FEW_DIGITS)


def _noise_norms(file: Path, lines: list[dict]) -> dict[str, list]:
    """The first and the last measured step of the training images: all norms in order of size, or as many quantiles."""
    kept = []
    lines = [line for line in lines if line.get("split") == "train"]
    for end in dict.fromkeys((lines[0].get("step"), lines[-1].get("step"))) if lines else ():
        own = [line for line in lines if line.get("step") == end]
        own.sort(key=lambda line: float(line["noise_norm"]))
        parts = min(MINI_BATCHES, len(own))
        kept += [own[int((i + 0.5) * len(own) / parts)] for i in range(parts)]
    return _columns(file, kept, ("step", "noise_norm"), FEW_DIGITS)


def _landscapes(folder: Path, kind: str, run: Path) -> dict[str, dict[str, list]]:
    """The points of each seed's landscape from its parts, the newest set of those that are whole."""
    sets: dict[int, dict[int, Path]] = {}
    for file in folder.glob(f"{kind}_*-of-*.csv"):
        if match := re.fullmatch(rf"{kind}_(\d+)-of-(\d+)\.csv", file.name):
            sets.setdefault(int(match[2]), {})[int(match[1])] = file
    whole = [list(map(parts.get, range(of))) for of, parts in sets.items() if set(parts) == set(range(of))]
    if not whole:
        return {}
    files = max(whole, key=lambda parts: min(file.stat().st_mtime_ns for file in parts))
    trained = (run / METRICS).stat().st_mtime_ns
    if old := [file for file in files if file.stat().st_mtime_ns < trained]:
        raise UserError(f"{old[0]}: is older than {run}; measure the landscape again")
    seeds: dict[str, list[dict]] = {}
    for file in files:
        for seed, lines in _by_seed(file).items():
            seeds.setdefault(seed, []).extend(lines)
    return {seed: _columns(files[0], own, LANDSCAPE_NUMBERS, FEW_DIGITS) for seed, own in seeds.items()}


def _rounded(text: str, digits: int) -> float | int | None:
    number = float(text) if text else math.nan
    if not math.isfinite(number):
        return None
    return int(number) if number == int(number) and abs(number) < 1e15 else float(f"{number:.{digits}g}")


def write_records(folders: Iterable[Path], measures: Path | None = None, root: Path = RECORDS) -> list[Path]:
    """Write the records of the finished batches in these folders and return their files.

    `measures` is the folder of their measures; None takes the workflow's, or measures/ in the folder of the batch.
    """
    written = []
    for folder in map(Path, folders):
        every = read_metrics(folder / METRICS)
        names = [every[0][key] for key in ("scale", "paper", "run")]
        batch = [metrics["seed"] for metrics in every]
        place, points = measures or measures_folder(*names, batch), landscape_folder(*names, batch)
        for record in records_of(folder, place if place.is_dir() else None, points if points.is_dir() else None):
            path = root / record_file(*names, record["metrics"]["seed"])
            if path.is_file() and (lost := set(parts_of(read_json(path))) - set(parts_of(record))):
                print(f"{path}: has no {', '.join(sorted(lost))} any more: {folder} has none", file=sys.stderr)
            write_text(path, as_text(record))
            written.append(path)
    return written


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


def read_record(file: Path) -> dict:
    """Read a record and check that it is whole; its measures are as `whysgd.measures.run.measure_run` writes them.

    Raises:
        UserError: it is missing, damaged, of another run than its place says, or was changed after it was written.
    """
    record = read_json(file)
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise UserError(f"{file}: not a record of format {FORMAT}")
    if not is_unchanged(record):
        raise UserError(f"{file}: does not match its checksum; it was changed after it was written")
    checked(Record, record, lambda _: str(file))
    try:
        problem = problem_of(record["metrics"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        problem = repr(error)
    if problem is not None:
        raise UserError(f"{file}: metrics: {problem}")
    place = record_file(*(record["metrics"][key] for key in ("scale", "paper", "run", "seed")))
    if place.parts != Path(file).parts[-4:]:
        raise UserError(f"{file}: is the record of {place}")
    # A setting that was added since has its default.
    spec = RunSpec.from_dict(record["metrics"]["settings"])
    metrics = {**record["metrics"], "settings": spec.to_dict(), "spec_digest": spec.digest}
    from_run = {**{key: metrics.get(key) for key in FROM_RUN}, "versions": metrics["versions"]}
    measures = {name: {**from_run, **own} for name, own in record["measures"].items()}
    return {**record, "metrics": metrics, "measures": measures}
