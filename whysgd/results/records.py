"""Records: what finished runs measured, small enough to keep in the repository.

A record is one JSON file, results/records/<scale>/<paper>/<run>/seed-<n>.json: the run's metrics with its provenance
(settings, data sha256, code digest, versions, device), its measures, and in short its history, its gradient noise and
the landscapes around it, as far as it has them. Weights are not in it. config/record.schema.yaml says what is where.
"""

import csv
import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from whysgd.errors import UserError
from whysgd.files import read_json, write_text
from whysgd.measures.catalog import LANDSCAPE_COLUMNS, LANDSCAPES, MEASURES
from whysgd.results.metrics import is_unchanged, problem_of, read_metrics, with_checksum
from whysgd.study.validation import validated

ROOT = Path("results/records")
FORMAT = 2
# Of 1, in which measures repeat what the metrics say, there are records, too.
READABLE = (1, 2)
HISTORY = (
    "step", "step_loss", "gradient_norm", "penalty", "step_length", "micro_batch_norm2", "train_loss", "train_accuracy",
    "validation_accuracy", "test_loss", "test_accuracy",
)  # fmt: skip
# Lines with accuracies, lines with micro-batch norms, measured steps of the layers' norms, norms of mini-batches, and
# significant digits (few of them for layers, norms and landscapes) that are kept, at most: they are for curves, and
# the final numbers are in the metrics. The noise keeps all of its steps: seeds that end at different ones have the
# others in common.
LINES, NORM_LINES, LAYER_STEPS, NORMS, DIGITS, FEW_DIGITS = 40, 40, 24, 200, 6, 4
# What a measure's result has from its run.
FROM_RUN = ("paper", "run", "scale", "seed", "status", "spec_digest", "model_sha256", "device", "threads")
LANDSCAPE_NUMBERS = [name for name in LANDSCAPE_COLUMNS if name not in ("paper", "run", "seed", "kind")]


def record_of(folder: Path, measures: Path | None = None, landscapes: Path | None = None) -> dict:
    """The record of a finished run.

    Args:
        folder: of the run.
        measures: folder of its measures, one JSON file each; None takes measures/ in the run's folder.
        landscapes: folder of the points of its landscapes, if it has any.

    Returns:
        `format`, `metrics` (of metrics.json), `measures` (by name, of those whose weights are the run's, without what
        the metrics say), `history` and, of a run that has them, `noise`, `layers`, `noise_norms` and `landscapes`, each
        {column: values}, and `checksum`, the digest of all the rest.

    Raises:
        UserError: the run is not finished, a file is damaged, or a measure is of other settings.
    """
    metrics, taken = read_metrics(folder / "metrics.json"), {}
    for name in MEASURES:
        file = (measures or folder / "measures") / f"{name}.json"
        if file.is_file():
            taken[name] = _without_run(_measure(file, folder, metrics), metrics)
    history = _history(folder / "history.csv", metrics["settings"]["evaluations"])
    content = {"format": FORMAT, "metrics": metrics, "measures": taken, "history": history}
    for name, columns in (("noise", _noise), ("layers", _layers), ("noise_norms", _noise_norms)):
        file = folder / f"{name}.csv"
        content |= {name: columns(file)} if file.is_file() else {}
    drawn = {kind: _landscape(landscapes, kind, folder) for kind in LANDSCAPES if landscapes}
    drawn = {kind: columns for kind, columns in drawn.items() if columns}
    return with_checksum({**content, **({"landscapes": drawn} if drawn else {})})


def _measure(file: Path, folder: Path, metrics: Mapping) -> dict:
    result = read_json(file)
    if not isinstance(result, dict):
        raise UserError(f"{file}: not the result of a measure")
    if any(result.get(key) != metrics.get(key) for key in ("spec_digest", "model_sha256")):
        raise UserError(f"{file}: is of other settings or weights than {folder}; measure the run again")
    return result


def _without_run(result: dict, metrics: Mapping) -> dict:
    """A measure's result without what its run's metrics say."""
    own = {key: value for key, value in result.items() if key not in FROM_RUN or value != metrics.get(key)}
    if own.get("versions", {}).items() <= metrics["versions"].items():
        own.pop("versions", None)
    return own


def _with_run(own: dict, metrics: Mapping) -> dict:
    return {**{key: metrics.get(key) for key in FROM_RUN}, "versions": metrics["versions"], **own}


def _lines(file: Path) -> list[dict[str, str]]:
    try:
        with open(file, encoding="utf-8", newline="") as opened:
            lines = list(csv.DictReader(opened))
        if not lines or any(None in line or None in line.values() for line in lines):
            raise ValueError("no lines, or some that are cut short")
        return lines
    except (OSError, ValueError, csv.Error) as error:
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


def _history(file: Path, planned: int) -> dict[str, list]:
    """Lines with accuracies; and lines with micro-batch norms, half of them from the first tenth of the run.

    `planned`: how many lines with accuracies a run has that does not end early; seeds that do keep the same ones.
    """
    lines = _lines(file)
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
    return _columns(file, chosen, HISTORY)


def all_columns(folder: Path, name: str) -> dict[str, list]:
    """history.csv, noise.csv or layers.csv of a run, whole, with the digits that records keep; {} if it has none."""
    file = folder / f"{name}.csv"
    if not file.is_file():
        return {}
    lines = _lines(file)
    return _columns(file, lines, lines[0], FEW_DIGITS if name == "layers" else DIGITS)


def _noise(file: Path) -> dict[str, list]:
    """All of it."""
    lines = _lines(file)
    return _columns(file, lines, lines[0])


def _layers(file: Path) -> dict[str, list]:
    """Some of the measured steps, of the layers' weights: biases are not drawn."""
    weights = [line for line in _lines(file) if line.get("layer", "").endswith("weight")]
    steps = set(_spread(list(dict.fromkeys(line.get("step") for line in weights)), LAYER_STEPS))
    return _columns(
        file,
        [line for line in weights if line.get("step") in steps],
        ("step", "layer", "weight_norm", "gradient_norm"),
        FEW_DIGITS,
    )


def _noise_norms(file: Path) -> dict[str, list]:
    """Of the first and the last measured step: all norms in order of size, or as many quantiles."""
    lines = _lines(file)
    kept = []
    for step in dict.fromkeys((lines[0].get("step"), lines[-1].get("step"))):
        own = sorted((line for line in lines if line.get("step") == step), key=lambda line: float(line["noise_norm"]))
        parts = min(NORMS, len(own))
        kept += [own[int((i + 0.5) * len(own) / parts)] for i in range(parts)]
    return _columns(file, kept, ("step", "noise_norm"), FEW_DIGITS)


def _landscape(folder: Path, kind: str, run: Path) -> dict[str, list] | None:
    """The points of a landscape from its parts, the newest set of those that are whole; None if there is none."""
    sets: dict[int, dict[int, Path]] = {}
    for file in folder.glob(f"{kind}_*-of-*.csv"):
        if match := re.fullmatch(rf"{kind}_(\d+)-of-(\d+)\.csv", file.name):
            sets.setdefault(int(match[2]), {})[int(match[1])] = file
    whole = [list(map(parts.get, range(of))) for of, parts in sets.items() if set(parts) == set(range(of))]
    if not whole:
        return None
    files = max(whole, key=lambda parts: min(file.stat().st_mtime_ns for file in parts))
    trained = (run / "metrics.json").stat().st_mtime_ns
    if old := [file for file in files if file.stat().st_mtime_ns < trained]:
        raise UserError(f"{old[0]}: is older than {run}; measure the landscape again")
    lines = [line for file in files if file.stat().st_size for line in csv.DictReader(file.open(encoding="utf-8"))]
    return _columns(files[0], lines, LANDSCAPE_NUMBERS, FEW_DIGITS) if lines else None


def _rounded(text: str, digits: int) -> float | int | None:
    number = float(text) if text else math.nan
    if not math.isfinite(number):
        return None
    return int(number) if number == int(number) and abs(number) < 1e15 else float(f"{number:.{digits}g}")


def path_of(record: dict, root: Path = ROOT) -> Path:
    """Where a record lies."""
    metrics = record["metrics"]
    return root / metrics["scale"] / metrics["paper"] / metrics["run"] / f"seed-{metrics['seed']}.json"


def write_records(folders: Iterable[Path], measures: Path | None = None, root: Path = ROOT) -> list[Path]:
    """Write the records of finished runs.

    Args:
        folders: of the runs.
        measures: the folder in which the workflow puts a scale's measures, <paper>/<run>/seed-<n>/ below it; None takes
            results/<scale>/measures, or what lies in measures/ in the run's folder. Landscapes lie in landscapes/
            beside it.
        root: where the records lie.

    Returns:
        their files.

    Raises:
        UserError: as `record_of`.
    """
    written = []
    for folder in map(Path, folders):
        metrics = read_metrics(folder / "metrics.json")
        base = measures or Path("results", metrics["scale"], "measures")
        place = Path(metrics["paper"], metrics["run"], f"seed-{metrics['seed']}")
        found = [path if path.is_dir() else None for path in (base / place, base.parent / "landscapes" / place)]
        record = record_of(folder, *found)
        path = path_of(record, root)
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
    if not isinstance(record, dict) or record.get("format") not in READABLE:
        raise UserError(f"{file}: not a record of format {' or '.join(map(str, READABLE))}")
    if not is_unchanged(record):
        raise UserError(f"{file}: does not match its checksum; it was changed after it was written")
    validated(record, "record.schema.yaml", lambda _: str(file))
    try:
        problem = problem_of(record["metrics"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        problem = repr(error)
    if problem is not None:
        raise UserError(f"{file}: metrics: {problem}")
    if path_of(record, Path()).parts != Path(file).parts[-4:]:
        raise UserError(f"{file}: is the record of {path_of(record, Path())}")
    measures = {name: _with_run(own, record["metrics"]) for name, own in record["measures"].items()}
    return {**record, "measures": measures}
