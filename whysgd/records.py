"""Records: what finished runs measured, small enough to keep in the repository.

A record is one JSON file, results/records/<scale>/<paper>/<run>/seed-<n>.json: the run's metrics with its provenance
(settings, data sha256, code digest, versions, device), its measures, and a compact history. Weights are not in it.
"""

import csv
import json
import math
from collections.abc import Iterable
from pathlib import Path

from whysgd.errors import UserError
from whysgd.files import read_json, write_text
from whysgd.measures.catalog import MEASURES
from whysgd.metrics import is_unchanged, read_metrics, with_checksum

ROOT = Path("results/records")
FORMAT = 1
# Of a run's folder: the files whose lines a record keeps, and which columns of them; None keeps all.
TABLES = {
    "history": (
        "history.csv",
        ("step", "step_loss", "gradient_norm", "train_loss", "train_accuracy", "test_loss", "test_accuracy"),
    ),
    "noise": ("noise.csv", None),
}
# Lines and significant digits that are kept, at most: they are for curves, and the final numbers are in the metrics.
LINES, DIGITS = 40, 6


def record_of(folder: Path, measures: Path | None = None) -> dict:
    """The record of a finished run.

    Args:
        folder: of the run.
        measures: folder of its measures, one JSON file each; None, or one that is missing, has none.

    Returns:
        `format`, `metrics` (of metrics.json), `measures` (by name, of those whose weights are the run's), `history` and
        `noise` ({column: values}, where the run has them; norms of single mini-batches are left out), and `checksum`,
        the digest of all the rest.

    Raises:
        UserError: the run is not finished, a file is damaged, or a measure is of other settings.
    """
    metrics, taken = read_metrics(folder / "metrics.json"), {}
    for name in MEASURES:
        file = (measures or folder / "measures") / f"{name}.json"
        if file.is_file():
            taken[name] = read_json(file)
            if not isinstance(taken[name], dict):
                raise UserError(f"{file}: not the result of a measure")
            if any(taken[name].get(key) != metrics.get(key) for key in ("spec_digest", "model_sha256")):
                raise UserError(f"{file}: is of other settings or weights than {folder}; measure the run again")
    tables = {name: _columns(folder / file, kept) for name, (file, kept) in TABLES.items() if (folder / file).is_file()}
    return with_checksum({"format": FORMAT, "metrics": metrics, "measures": taken, **tables})


def _columns(file: Path, kept: tuple[str, ...] | None) -> dict[str, list]:
    """Columns of a CSV file of numbers, by name, of lines that are evenly spread, from the first to the last.

    Lines of a history on which accuracies are not measured are left out.
    """
    try:
        with open(file, encoding="utf-8", newline="") as opened:
            lines = list(csv.DictReader(opened))
        names = [name for name in (kept or lines[0]) if any(line[name] for line in lines)]
        if "test_accuracy" in names:
            lines = [line for line in lines if line["test_accuracy"]]
        parts = min(LINES, len(lines))
        lines = [lines[round(i * (len(lines) - 1) / max(1, parts - 1))] for i in range(parts)]
        return {name: [_rounded(line[name]) for line in lines] for name in names}
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise UserError(f"{file}: not readable ({error!r})") from None


def _rounded(text: str) -> float | int | None:
    number = float(text) if text else math.nan
    if not math.isfinite(number):
        return None
    return int(number) if number == int(number) and abs(number) < 1e15 else float(f"{number:.{DIGITS}g}")


def path_of(record: dict, root: Path = ROOT) -> Path:
    """Where a record lies."""
    metrics = record["metrics"]
    return root / metrics["scale"] / metrics["paper"] / metrics["run"] / f"seed-{metrics['seed']}.json"


def write_records(folders: Iterable[Path], measures: Path | None = None, root: Path = ROOT) -> list[Path]:
    """Write the records of finished runs.

    Args:
        folders: of the runs.
        measures: the folder in which the workflow puts a scale's measures, <paper>/<run>/seed-<n>/ below it; None takes
            results/<scale>/measures, or what lies in measures/ in the run's folder.
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
        theirs = base / metrics["paper"] / metrics["run"] / f"seed-{metrics['seed']}"
        record = record_of(folder, theirs if theirs.is_dir() else None)
        path = path_of(record, root)
        write_text(path, as_text(record))
        written.append(path)
    return written


def as_text(record: dict) -> str:
    """JSON with a line for each entry of the first two levels: small, and fit for a diff."""
    lines = []
    for key, value in record.items():
        if isinstance(value, dict):
            inner = ",\n  ".join(f"{json.dumps(name)}: {json.dumps(one)}" for name, one in value.items())
            lines.append(f"{json.dumps(key)}: {{\n  {inner}\n }}" if value else f"{json.dumps(key)}: {{}}")
        else:
            lines.append(f"{json.dumps(key)}: {json.dumps(value)}")
    return "{\n " + ",\n ".join(lines) + "\n}\n"


def read_record(file: Path) -> dict:
    """Read a record and check that it is whole.

    Raises:
        UserError: it is missing, damaged, or was changed after it was written.
    """
    record = read_json(file)
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise UserError(f"{file}: not a record of format {FORMAT}")
    if not is_unchanged(record):
        raise UserError(f"{file}: does not match its checksum; it was changed after it was written")
    return record
