"""What a record of records/ says, as typed models; columns are lists of equal length."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from whysgd.study.settings import Count, Index, Settings, Text

Columns = dict[str, list[float | int | str | None]]
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

    format: Literal[2]
    checksum: Digest
    """Digest of all the rest."""
    metrics: RecordedMetrics
    measures: dict[str, RecordedMeasure]
    history: Columns
    """Some lines of history.csv."""
    norms: Columns
    """Gradient norms of the first steps."""
    noise: Columns | None = None
    """Lines of noise.csv."""
    layers: Columns | None = None
    """Some steps of layers.csv."""
    noise_norms: Columns | None = None
    """The first and last measured step, in order of size or as quantiles."""
    landscapes: dict[Literal["line", "plane"], Columns] | None = None
    """Loss landscapes around the weights."""
