"""Reading and writing metrics.json, what a batch of seeds of one run ended with. Imports no torch."""

from collections.abc import Sequence
from pathlib import Path

from whysgd.errors import UserError
from whysgd.files import digest_of, read_json, sha256_of
from whysgd.results.paths import METRICS, batch_name, run_folder
from whysgd.study.settings import is_real
from whysgd.study.spec import RunSpec

MEASURED = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "test_loss", "test_accuracy")
KEYS = ["paper", "run", "scale", "seed"]
STATUS = ("finished", "diverged")
CHECKSUM = "checksum"
# What each seed has of its own; all other keys are those of the batch.
OF_A_SEED = (
    "spec_digest", "status", "stopped_at_accuracy", "steps", "final", "best", "weights_sha256", "seconds_per_step",
    "images_per_second", "cpu_seconds",
)  # fmt: skip


def with_checksum(content: dict) -> dict:
    """Return the content with the digest of all of it, as `checksum`."""
    return {**content, CHECKSUM: digest_of(content)}


def is_unchanged(content: dict) -> bool:
    """Return whether `checksum` is that of all the rest; False if there is none."""
    return content.get(CHECKSUM) == digest_of({key: value for key, value in content.items() if key != CHECKSUM})


def joined(seeds: Sequence[dict], files: dict[str, str]) -> dict:
    """Return the content of metrics.json, from those of each seed, which differ in `OF_A_SEED` and the seed alone.

    `files` is the sha256 of the files beside it, by name.
    """
    common = {key: value for key, value in seeds[0].items() if key not in (*OF_A_SEED, "seed", "settings")}
    settings = {key: value for key, value in seeds[0]["settings"].items() if key != "seed"}
    own = {str(metrics["seed"]): {key: metrics[key] for key in OF_A_SEED} for metrics in seeds}
    return with_checksum({**common, "settings": settings, "sha256": files, "seeds": own})


def split(content: dict) -> list[dict]:
    """Return the metrics of each seed, from the content of metrics.json; `batch` lists the seeds trained with it."""
    common = {key: value for key, value in content.items() if key not in ("seeds", "settings", CHECKSUM)}
    common["batch"] = list(map(int, content["seeds"]))
    return [
        {**common, **own, "seed": int(seed), "settings": {**content["settings"], "seed": int(seed)}}
        for seed, own in content["seeds"].items()
    ]


def read_metrics(file: str | Path, placed: bool = False) -> list[dict]:
    """Return the metrics of each seed of a finished batch; with `placed`, refuse a file that lies in another's place.

    Raises:
        UserError: the file is missing or damaged, was changed after it was written, or is not the metrics of one run.
    """
    content = read_json(file)
    try:
        problem = None if is_unchanged(content) else "does not match its checksum: it was changed after it was written"
        seeds = split(content)
        problem = problem or next(filter(None, map(problem_of, seeds)), None if seeds else "has no seed")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        problem = f"not the metrics of a run ({error!r})"
    if problem is None and placed:
        place = run_folder(*(content[key] for key in ("scale", "paper", "run")))
        place = place / batch_name([metrics["seed"] for metrics in seeds]) / METRICS
        problem = None if Path(file).as_posix().endswith(place.as_posix()) else f"the metrics of {place.parent}"
    if problem is not None:
        raise UserError(f"{file}: {problem}; remove it to train the run again")
    return seeds


def read_measured(file: str | Path) -> list[dict]:
    """Return the list of results that is in a file of measures; refuse another file."""
    results = read_json(file)
    if not isinstance(results, list) or not all(isinstance(result, dict) for result in results):
        raise UserError(f"{file}: not the results of measures; remove it to measure the run again")
    return results


def check_file(metrics: dict, file: Path) -> None:
    """Refuse a file beside the metrics that is not, by its sha256 there, what training wrote."""
    if sha256_of(file) != metrics["sha256"].get(file.name):
        raise UserError(f"{file}: was changed after the run wrote it; remove it to train the run again")


def problem_of(metrics: dict) -> str | None:
    """Return what is wrong with the metrics of a seed, or None; a missing key or a wrong type may raise instead."""
    spec = RunSpec.from_dict(metrics["settings"])
    if metrics["spec_digest"] != digest_of(metrics["settings"]):
        return "its settings are not those of its spec_digest"
    if different := [key for key in KEYS if metrics[key] != getattr(spec, key)]:
        return f"{different[0]} = {metrics[different[0]]!r} is not that of its settings"
    if metrics["status"] not in STATUS:
        return f"status = {metrics['status']!r}: allowed: {', '.join(STATUS)}"
    for part in ("final", "best"):
        for key in MEASURED:
            if metrics[part][key] is not None and not is_real(metrics[part][key]):
                return f"{part}.{key} = {metrics[part][key]!r}: must be a finite number or null"
    for part in ("data", "sha256"):
        if not isinstance(metrics.get(part, {}), dict):
            return f"{part}: must be a mapping"
    return None
