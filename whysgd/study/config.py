"""The configuration: files laid over one another, checked, defaults filled in."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, create_model

from whysgd.data.catalog import BUILT_IN
from whysgd.errors import UserError, nearest
from whysgd.measures.catalog import View
from whysgd.study import settings as typed
from whysgd.study.fields import kept_as_given, known
from whysgd.study.names import TAKEN, is_dotted, is_name, same_but_for_case
from whysgd.study.registry import names, problem, settings_of
from whysgd.study.validation import ROOT, checked, dotted, read_yaml

DEFAULT_FILE = ROOT / "config.yaml"
PAPERS = ROOT / "papers"
OVERLAYS = ROOT / "config"
SAME = "same"
_ABSENT = object()


Seeds = Annotated[list[typed.Index], Field(min_length=1), typed.UNIQUE]
_FROM = typed.must(lambda one: one == "*" or is_name(one) or is_dotted(one),
                   "must be a name, a dotted path, or * for every other name")  # fmt: skip
Mapped = dict[Annotated[str, _FROM], typed.Method]


class Cluster(typed.Settings):
    """What training and measuring ask of a scheduler; each attempt asks for twice the time."""

    margin: typed.Divisor = 3.0
    """Times what is predicted of a job."""
    minutes: typed.Count = 20
    """Minutes on top of that."""
    longest: typed.Count = 1440
    """Minutes that no job exceeds, as partitions have them; longer runs continue in another job."""
    memory_mb: typed.Count = 4000
    """Least memory."""


class OwnDataset(typed.Settings):
    """A data set of your own."""

    source: Literal["image_folder"]
    """A folder of images."""
    path: typed.PathText
    """A folder with train/<class>/ and test/<class>/."""
    label: typed.Line | None = None
    """How tables and figures name it; null takes the name."""
    train_images: typed.Count | None = None
    """Take only so many training images (of the shuffled order); null takes all."""
    test_images: typed.Count | None = None
    """Take only so many test images; null takes all."""


class Landscape(View):
    """Landscapes of the runs of tables with such figures: a profile of every seed, a plane of the first."""

    line_points: typed.Points = 51
    """Points of a 1-D profile."""
    plane_points: typed.Points = 51
    """Points of each axis of a 2-D profile."""
    line_chunks: typed.Few = 3
    """Jobs for a profile."""
    plane_chunks: typed.Few = 17
    """Jobs for a plane."""
    images: typed.Count | None = None
    """Only so many training images; null takes all."""


Measuring = create_model(
    "Measuring",
    __base__=typed.Settings,
    __doc__="How runs are measured, and on how much.",
    **{
        name: (model, Field(default_factory=model, description=f"Options of {name}."))
        for name in names("measure")
        if (model := settings_of("measure", name)).model_fields
    },
    landscape=(Landscape, Field(default_factory=Landscape, description="Loss landscapes.")),
)


class Rules(typed.Settings):
    """Rules of a scale for the size of its runs; what `rules_of` gives a paper replaces the scale's, key by key."""

    seeds_per_job: typed.Count | None = 1
    """How many seeds of a run are trained, and measured, by one job; null, all of them."""
    measures_share_a_job: typed.Flag = False
    """Take all measures in one job, which saves time where they are short; false, each in one of its own."""
    datasets: Mapped = {}
    """Data set of the paper: data set to use; "*" stands for every other name, `same` for no change."""
    models: Mapped = {}
    """Network of the paper: network to use; "*" stands for every other name but dotted paths, `same` for no change."""
    time_divisor: Annotated[typed.Real, Field(ge=1e-3)] = 1.0
    """Divides all epochs and steps, and warmup, horizon and milestones of schedules in epochs or steps; an exponential
    decay keeps what it does in all; below 1 makes runs longer.
    """
    micro_batch_divisor: typed.Divisor = 1.0
    """Divides the sizes of micro-batches and batches."""
    batch_divisor: typed.Divisor = 1.0
    """Divides batches of several micro-batches further, by taking fewer of them."""
    copies_divisor: typed.Divisor = 1.0
    """Divides the number of stored copies of an image."""
    strength_divisor: typed.Positive = 1.0
    """Divides λ of every penalty on micro-batches."""
    lr_factor: typed.Positive = 1.0
    """Multiplies every learning rate; those of steps that do not take all images are divided by micro_batch_divisor."""


class Scale(Rules):
    """Rules that map every row of every paper to a size that can be run."""

    description: str = ""
    """For readers."""
    seeds: Seeds
    """One run for each."""
    table_seeds: dict[typed.Name, dict[typed.Name, typed.Few]] = {}
    """For a paper, how many seeds, 0, 1, …, the runs of a table have in place of `seeds`; a run of several tables has
    those of each.
    """
    tables: dict[typed.Name, Annotated[list[typed.Name], Field(min_length=1)]] = {}
    """For a paper, the tables that are run; papers that are not named run all."""
    grids: dict[typed.Name, dict[typed.Name, dict[str, typed.Scalars]]] = {}
    """For a paper and a table with a grid, the values of its axes that are run; the others are left out."""
    skip: dict[typed.Name, Annotated[list[typed.Name], typed.UNIQUE]] = {}
    """For a paper, runs that are not made; the name of a table's row skips it in every column."""
    measuring: Measuring = Field(default_factory=Measuring)
    """How runs are measured."""
    rules_of: dict[typed.Name, kept_as_given(Rules)] = {}
    """For a paper, rules in place of the scale's."""
    augmentation: typed.CropAndFlip | None = None
    """Replaces the augmentation of the rows, and of stored copies, that have one; null keeps it."""


class Config(typed.Settings):
    """What config.yaml and the files laid over it may say."""

    scale: typed.Name
    """Which entry of `scales` is run; results lie under results/<scale>."""
    from_: Literal["training", "records"] = Field("training", alias="from")
    """Where results come from: training, or the records of runs that were trained before."""
    papers: Annotated[list[typed.Name], Field(min_length=1), typed.UNIQUE] = ["geiping2022"]
    """Which files of papers/ are run."""
    seeds: Seeds | None = None
    """One run for each of these; null takes the seeds of the scale."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where training runs; auto takes a GPU if there is one."""
    precision: typed.Precision = "auto"
    """Precision of the network's arithmetic (weights and sums are fp32 in any); auto is fp32 on a CPU, on a GPU bf16,
    or tf32 for a penalty of differences and for a network of a dotted path.
    """
    engine: Literal["auto", "eager", "compiled"] = "auto"
    """How a step is computed, equal up to rounding: operation by operation, or compiled; auto compiles
    on a GPU only.
    """
    images_on: Literal["auto", "device", "host"] = "auto"
    """Where training images lie: in the device's memory, or in the computer's, from where they stream; auto goes by
    size.
    """
    threads: typed.Threads = 1
    """CPU threads of one job that trains or measures (one is best as long as there are as many jobs as cores)."""
    container: typed.PathText | None = None
    """Image of `--sdm apptainer` in which all jobs run: a file, or an address such as docker://…; null has none."""
    evaluations: typed.Few = 20
    """Lines of each run's history, evenly spaced over its steps."""
    measures: Annotated[list[known("measure")], typed.UNIQUE] = names("measure")
    """What is measured of every finished run; an empty list measures nothing and draws no landscapes."""
    checkpoint_seconds: typed.Positive = 30.0
    """Seconds between two checkpoints of a run."""
    tensorboard: typed.Flag = False
    """Write each run's history as TensorBoard's event files, too, into tensorboard/ in the run's folder."""
    cluster: Cluster = Field(default_factory=Cluster)
    """What training and measuring ask of a scheduler."""
    data_dir: typed.PathText = "data"
    """Folder for downloaded originals."""
    datasets: dict[typed.Name, OwnDataset] = {}
    """Data sets of your own, by name."""
    scales: Annotated[dict[typed.Name, Scale], Field(min_length=1)] = {}
    """Rules that map every row of every paper to a size that can be run."""


def load_config(overlays=(), settings: Mapping | None = None) -> dict:
    """Read config.yaml, the overlays of `--configfile` and the settings of `--config`; the last wins, as in Snakemake.

    Raises:
        UserError: a file is missing or not YAML, or the result is not valid.
    """
    files = [DEFAULT_FILE, *map(Path, overlays)]
    merged: dict = {}
    for file in files:
        merged = _merge(merged, read_yaml(file) or {}, file)
    return validate_config(_merge(merged, settings or {}, Path("--config")), files)


def paper_names() -> list[str]:
    """Return the names of all files of papers/."""
    return sorted(file.stem for file in PAPERS.glob("*.yaml"))


def validate_config(config: Mapping, files=(DEFAULT_FILE,)) -> dict:
    """Return a merged configuration with defaults filled in; errors name the one of its `files` that has the key.

    Raises:
        UserError: one line for each unknown key, wrong type or impossible value: file, key and what is allowed.
    """
    contents = [(Path(file), read_yaml(Path(file)) or {}) for file in files]

    def where(path: tuple) -> str:
        value = _at(config, path)
        for file, content in reversed(contents):
            found = _at(content, path)
            # NaN is not equal to itself.
            if found is not _ABSENT and (isinstance(found, dict) or found == value or repr(found) == repr(value)):
                return _short(file)
        # A key that is missing is looked for where its surroundings stand.
        return where(path[:-1]) if len(path) > 1 and value is _ABSENT else "--config"

    read = checked(Config, dict(config), where).model_dump(by_alias=True)
    if found := list(_impossible(read)):
        raise UserError("\n".join(f"{where(path)}: {dotted(path)}{text}" for path, text in found))
    return read


def _impossible(read: Mapping):
    """Yield (path of keys, what is wrong) for each name that there is not, or cannot be."""

    def unknown(path: tuple, value, known):
        if value not in known:
            yield path, f" = {value!r}: allowed: {', '.join(known)}{nearest(value, known)}"

    papers = paper_names()
    yield from unknown(("scale",), read["scale"], read["scales"])
    for index, name in enumerate(read["papers"]):
        yield from unknown(("papers", index), name, papers)
    for key, taken in (("datasets", (SAME, *BUILT_IN)), ("scales", TAKEN)):
        yield from (((key, name), ": the name is taken") for name in read[key] if name in taken)
        if pair := same_but_for_case((*read[key], *taken)):
            yield (key, pair[-1]), f": {' and '.join(pair)}: differ in case alone"
    for scale, rules in read["scales"].items():
        for key in ("tables", "grids", "table_seeds", "skip", "rules_of"):
            for name in rules[key]:
                yield from unknown(("scales", scale, key, name), name, papers)
        for name, target in rules["datasets"].items():
            yield from unknown(("scales", scale, "datasets", name), target, (SAME, *BUILT_IN, *read["datasets"]))
        for name, target in rules["models"].items():
            if target != SAME and (why := problem("network", target)) is not None:
                yield ("scales", scale, "models", name), f" = {target!r}: {why.replace(': ', f': {SAME}, ', 1)}"


def retyped(value):
    """Return a value of `--config` with numbers, truth values and nulls as such: Snakemake leaves them as text."""
    if isinstance(value, dict):
        return {key: retyped(item) for key, item in value.items()}
    if isinstance(value, list):
        return [retyped(item) for item in value]
    try:
        return yaml.safe_load(value) if isinstance(value, str) and value else value
    except yaml.YAMLError:
        return value


def _merge(below: dict, above, file: Path) -> dict:
    if not isinstance(above, Mapping):
        raise UserError(f"{_short(file)}: top level must be a mapping of keys to values")
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value, file) if both else value
    return merged


def _at(content, path: tuple):
    try:
        for part in path:
            content = content[part]
    except (KeyError, IndexError, TypeError):
        return _ABSENT
    return content


def _short(file: Path) -> str:
    file = file.resolve()
    return str(file.relative_to(ROOT)) if file.is_relative_to(ROOT) else str(file)
