"""What a record of records/ says, as typed models, and reading one; columns are lists of equal length."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field

from whysgd.errors import UserError
from whysgd.files import read_json
from whysgd.results.metrics import is_unchanged, problem_of
from whysgd.results.paths import record_file
from whysgd.study.settings import Count, Index, Settings, Text
from whysgd.study.spec import RunSpec
from whysgd.study.validation import Problems, checked

FORMAT = 2
# What a measure's result has from its run.
FROM_RUN = ("paper", "run", "scale", "seed", "status", "spec_digest", "weights_sha256", "device", "threads")


def _one_length(columns: dict) -> dict:
    if len(set(map(len, columns.values()))) > 1:
        raise Problems([((), ": must be columns of one length")])
    return columns


def _with_steps(columns: dict) -> dict:
    if columns and not all(isinstance(step, int) for step in columns.get("step", [None])):
        raise Problems([((), ".step: must be whole numbers")])
    return columns


Columns = Annotated[dict[str, list[float | int | str | None]], AfterValidator(_one_length)]
Digest = Annotated[str, Field(min_length=16)]


class _Open(Settings):
    """Settings beside which others may stand."""

    model_config = ConfigDict(extra="allow")


class RecordedData(_Open):
    """The data set that a run was trained on."""

    label: Text
    """As tables name it, e.g. CIFAR-10 (JPEG)."""
    sha256: Annotated[str, Field(min_length=64)]
    """Digest of the canonical data set."""
    train_images: Count
    test_images: Count


class RecordedMetrics(_Open):
    """The metrics of one seed of a run, as metrics.json has them."""

    paper: str
    run: str
    scale: str
    seed: Index
    batch: list[Index]
    """The seeds that were trained together."""
    status: Literal["finished", "diverged"]
    steps: Index
    """Optimizer steps made."""
    final: dict[str, Any]
    """Losses [nats] and accuracies [%] of the last step."""
    best: dict[str, Any]
    """Those of the selected evaluation."""
    parameters: Count
    """Number of the network's parameters."""
    settings: dict[str, Any]
    """The whole specification."""
    spec_digest: str
    data: RecordedData
    code_digest: Digest
    versions: dict[str, Any]
    device: Text
    machine: dict[str, str | None]
    """The processor's model and instruction set, BLAS and the commit of the code, see `machine_facts`."""
    threads: Count
    precision: Any
    started: Any
    ended: Any


class RecordedMeasure(_Open):
    """The result of a measure; what is not said is as in the metrics."""

    measure: Any
    quantities: Any
    options: Any
    code_digest: Any
    cost: Any


class Record(Settings):
    """What a finished run measured, small enough to keep in the repository."""

    format: Literal[FORMAT]
    checksum: Digest
    """Digest of all the rest."""
    metrics: RecordedMetrics
    measures: dict[str, RecordedMeasure]
    history: Annotated[Columns, AfterValidator(_with_steps)]
    """Some lines of history.csv."""
    norms: Columns
    """Gradient norms of the first steps."""
    noise: Columns | None = None
    """Some lines of noise.csv."""
    layers: Columns | None = None
    """Some steps of layers.csv."""
    noise_norms: Columns | None = None
    """The first and last measured step, in order of size or as quantiles."""
    landscapes: dict[Literal["line", "plane"], Columns] | None = None
    """Loss landscapes around the weights."""


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
