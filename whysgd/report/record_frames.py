"""The tidy frames of runs, histories and measures, from records."""

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from whysgd.errors import UserError
from whysgd.measures.catalog import LANDSCAPE_COLUMNS
from whysgd.report.frame import FROM_RECORDS, run_line
from whysgd.report.measures import COLUMNS, measure_lines
from whysgd.results.metrics import KEYS
from whysgd.results.paths import RECORDS
from whysgd.results.record_model import read_record
from whysgd.results.recorded import older_measure, older_training
from whysgd.results.records import HISTORY_KEPT
from whysgd.study.length import epoch_at
from whysgd.study.spec import RunSpec


def read_record_frames(
    files: Iterable[str | Path], options: Mapping[str, Mapping], root: Path = RECORDS
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return all runs, histories and measures as `read_runs`, `read_histories` and `read_measures` have them.

    `source` is "records", and `older` says what was made by older code. A history has the lines that a record keeps.

    Args:
        files: of the records.
        options: which of their measures to take: those with these options.
        root: where records lie.

    Raises:
        UserError: as `read_record`; or two runs were trained on data of one name that are not the same.
    """
    runs, histories, found = [], [], []
    data: dict[str, tuple[str, Path]] = {}
    for file in map(Path, files):
        record = read_record(file)
        metrics = record["metrics"]
        known, first = data.setdefault(metrics["settings"]["dataset"], (metrics["data"]["sha256"], file))
        if known != metrics["data"]["sha256"]:
            raise UserError(f"{file}: was trained on other data than {first}: data.sha256 differs")
        runs.append({**run_line(metrics, file), "source": FROM_RECORDS, "older": older_training(metrics, root)})
        histories.append(_history(record))
        for name, result in record["measures"].items():
            if options.get(name) != result["options"]:
                print(f"{file}: {name} was measured with other options, and is left out", file=sys.stderr)
                continue
            older = older_measure(result, metrics, root)
            found += [{**line, "older": older} for line in measure_lines(result, file)]
    return pd.DataFrame(runs), pd.concat(histories, ignore_index=True), pd.DataFrame(found, columns=COLUMNS)


def _history(record: dict) -> pd.DataFrame:
    metrics, lines = record["metrics"], pd.DataFrame(record["history"]).reindex(columns=HISTORY_KEPT)
    spec, images = RunSpec.from_dict(metrics["settings"]), metrics["data"]["train_images"]
    lines.insert(1, "epoch", [epoch_at(spec, images, step - 1) + 1 for step in lines.step])
    return pd.DataFrame({**{key: metrics[key] for key in KEYS}, **lines})


def unpacked(file: Path, name: str) -> pd.DataFrame:
    """Return what a record keeps of a landscape's points or of another one of `whysgd.results.recorded.EXTRAS`.

    Raises:
        UserError: it has no such thing, or is damaged.
    """
    record = read_record(file)
    landscape = record.get("landscapes", {}).get(name)
    columns = landscape or record.get(name)
    if not columns:
        raise UserError(f"{file}: has no {name}")
    names = {key: record["metrics"][key] for key in KEYS}
    if landscape:
        return pd.DataFrame({**names, "kind": name, **columns}).reindex(columns=LANDSCAPE_COLUMNS)
    return pd.DataFrame({**names, **columns})
