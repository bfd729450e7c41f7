"""Reading a run's metrics.json: whole, unchanged and of one run, or refused with its path. Imports no torch."""

import math
from pathlib import Path

from whysgd.errors import UserError
from whysgd.files import digest_of, read_json, sha256_of
from whysgd.study.spec import RunSpec

MEASURED = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "test_loss", "test_accuracy")
KEYS = ["paper", "run", "scale", "seed"]
STATUS = ("finished", "diverged")
CHECKSUM = "checksum"


def with_checksum(content: dict) -> dict:
    """The content with the digest of all of it, as `checksum`."""
    return {**content, CHECKSUM: digest_of(content)}


def is_unchanged(content: dict) -> bool:
    """Whether `checksum` is that of all the rest; False if there is none."""
    return content.get(CHECKSUM) == digest_of({key: value for key, value in content.items() if key != CHECKSUM})


def read_metrics(file: str | Path, placed: bool = False) -> dict:
    """The metrics of a finished run.

    Args:
        file: its metrics.json.
        placed: the file must lie where the workflow puts that run's: another run's is refused.

    Raises:
        UserError: the file is missing or damaged, was changed after it was written, or is not the metrics of one run.
    """
    metrics = read_json(file)
    try:
        problem = problem_of(metrics)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        problem = f"not the metrics of a run ({error!r})"
    if problem is None and placed:
        folder = RunSpec.from_dict(metrics["settings"]).folder
        problem = None if Path(file).parent.as_posix().endswith(folder) else f"the metrics of {folder}"
    if problem is not None:
        raise UserError(f"{file}: {problem}; remove it to train the run again")
    return metrics


def check_file(metrics: dict, file: Path) -> None:
    """Compare a text file that a run left beside its metrics with the sha256 that these have of it.

    Raises:
        UserError: it is another file than the run wrote.
    """
    # Runs of older versions have none.
    expected = metrics.get("sha256", {}).get(file.name)
    if expected is not None and sha256_of(file) != expected:
        raise UserError(f"{file}: was changed after the run wrote it; remove it to train the run again")


def problem_of(metrics) -> str | None:
    """What is wrong with metrics, or None; a missing key or a value of a wrong type may raise instead."""
    if not isinstance(metrics, dict):
        return "not the metrics of a run (not a mapping)"
    # Runs of older versions have no checksum.
    if CHECKSUM in metrics and not is_unchanged(metrics):
        return "does not match its checksum: it was changed after it was written"
    spec = RunSpec.from_dict(metrics["settings"])
    if metrics["spec_digest"] != digest_of(metrics["settings"]):
        return "its settings are not those of its spec_digest"
    if different := [key for key in KEYS if metrics[key] != getattr(spec, key)]:
        return f"{different[0]} = {metrics[different[0]]!r} is not that of its settings"
    if metrics["status"] not in STATUS:
        return f"status = {metrics['status']!r}: allowed: {', '.join(STATUS)}"
    for part in ("final", "best"):
        for key in MEASURED:
            if metrics[part][key] is not None and not _is_number(metrics[part][key]):
                return f"{part}.{key} = {metrics[part][key]!r}: must be a finite number or null"
    for part in ("data", "sha256"):
        if not isinstance(metrics.get(part, {}), dict):
            return f"{part}: must be a mapping"
    return None


def _is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
