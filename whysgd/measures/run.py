"""Measuring one finished run: its weights, the images it was trained on, and the results as JSON.

Every measure of every run uses the same images (without augmentation; of stored copies, the originals; without those
held out) in evaluation mode in fp32, whatever the run was trained with.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from whysgd.data.augmentation import Normalizer
from whysgd.data.canonical import Dataset, load_dataset
from whysgd.errors import UserError
from whysgd.files import write_json
from whysgd.measures.catalog import quantities_of
from whysgd.measures.estimate import Estimate
from whysgd.measures.images import Images
from whysgd.models.build import build_model
from whysgd.results.metrics import check_file, read_metrics
from whysgd.results.paths import BEST, METRICS, MODEL, dataset_folder
from whysgd.study.codedigest import measuring_code
from whysgd.study.length import trained_images
from whysgd.study.registry import find, settings_of
from whysgd.study.spec import RunSpec
from whysgd.study.validation import checked
from whysgd.training.device import device_name, memory_of
from whysgd.training.grouping import saved_bytes
from whysgd.training.objective import Objective
from whysgd.training.results import now, versions

# Of a GPU's memory, for what a forward pass keeps; differentiating twice keeps a few times as much.
MEMORY_SHARE, CPU_BYTES, LARGEST = 0.08, 1 << 30, 5000


@dataclass(frozen=True)
class TrainedRun:
    """A finished run, ready to be measured.

    Attributes:
        spec, metrics: what it is, and what its training left.
        model: with its final weights, or those of the selected step, on the device; None if it diverged.
        train, test: the images it was trained on, and the test set.
        label: of the data set.
    """

    spec: RunSpec
    metrics: dict
    model: torch.nn.Module | None
    train: Images
    test: Images
    label: str


def load_runs(
    folder: Path,
    data: Path | None = None,
    device="cpu",
    images: int | None = None,
    seeds: Sequence[int] | None = None,
) -> Iterator[TrainedRun]:
    """Yield the seeds of a finished batch, one after another, each ready to be measured.

    Args:
        folder: of the batch, with metrics.json and its weights.
        data: folder of the canonical data set; None takes the workflow's.
        device: where to measure.
        images: take only the first so many training images; None takes all that were trained on.
        seeds: which of the batch; None takes all.

    Raises:
        UserError: a file is missing or damaged, there is no such seed, or the data are not those of the run.
    """
    device = torch.device(device)
    metrics = {one["seed"]: one for one in read_metrics(Path(folder, METRICS))}
    if absent := [seed for seed in seeds or () if seed not in metrics]:
        raise UserError(f"{folder}: has no seed {absent[0]}; allowed: {', '.join(map(str, metrics))}")
    specs = {seed: RunSpec.from_dict(one["settings"]) for seed, one in metrics.items()}
    spec, common = next(iter(specs.values())), next(iter(metrics.values()))
    data = data or dataset_folder(spec.dataset)
    dataset = load_dataset(data)
    if dataset.manifest["sha256"] != common["data"].get("sha256"):
        raise UserError(f"{data}: is not the data set that the run in {folder} was trained on")
    # Of a run that selects a step, the weights of that step are measured.
    file = Path(folder, BEST if spec.held_out and BEST in common["sha256"] else MODEL)
    check_file(common, file)
    count = trained_images(spec, len(dataset.train.labels))
    statistics = dict(spec.normalize) if spec.normalize else dataset.manifest
    normalize = Normalizer(statistics["mean"], statistics["std"], torch.float32, device)
    for seed in seeds or metrics:
        diverged = metrics[seed]["status"] == "diverged"
        model = None if diverged else _trained_model(file, specs[seed], dataset, device)
        batch = batch_size(model, dataset.train.images.shape[1:], device) if model else LARGEST
        if model:
            model.eval()
        train, test = (
            Images(
                torch.from_numpy(split.images[:most]).to(device), torch.from_numpy(split.labels[:most]).to(device),
                normalize, batch, seed, spec.measured_loss,
            )
            for split, most in ((dataset.train, min(count, images or count)), (dataset.test, None))
        )  # fmt: skip
        yield TrainedRun(specs[seed], metrics[seed], model, train, test, dataset.manifest["label"])


def _trained_model(file: Path, spec: RunSpec, dataset: Dataset, device: torch.device) -> torch.nn.Module:
    shape, classes = dataset.train.images.shape, len(dataset.manifest["classes"])
    model = build_model(spec.model, shape[1], classes, spec.seed, shape[2])
    try:
        with safe_open(file, "pt") as tensors:
            own = [name for name in tensors.keys() if name.startswith(f"{spec.seed}/")]  # noqa: SIM118, not a dict
            model.load_state_dict({name.partition("/")[2]: tensors.get_tensor(name) for name in own})
    except (OSError, SafetensorError, RuntimeError) as error:
        first = str(error).splitlines()[0]
        raise UserError(f"{file}: not the weights of a {spec.model} ({first}); train the run again") from None
    return model.to(device).eval()


def batch_size(model: torch.nn.Module, shape: tuple[int, ...], device: torch.device) -> int:
    """Images of a batch: as many as leave room for derivatives on a GPU, as stay within a gigabyte on a CPU."""
    gpu, few = device.type == "cuda", 4
    each = saved_bytes(Objective(model), few, shape, device="meta" if gpu else "cpu") / few
    memory = MEMORY_SHARE * memory_of(device) if gpu else CPU_BYTES
    return max(1, min(LARGEST, int(memory / each)))


def measure_batch(
    names: Sequence[str], runs: Iterable[TrainedRun], out: Path, options: Mapping[str, Mapping] | None = None
) -> None:
    """Take these measures of each seed of a batch and write the results, a list, into one JSON file.

    Each result has the run's names, `status`, the `quantities` with their uncertainties (see
    `whysgd.measures.estimate`; None where they are not defined, all of them for a run that diverged), the `options`,
    and what it cost.

    Args:
        names: names of measures, or dotted paths.
        runs: of `load_runs`.
        out: the file.
        options: of each measure, by its name.

    Raises:
        UserError: an unknown measure or option, or one that does not fit the run.
    """
    options = options or {}
    functions = {name: find("measure", name) for name in names}
    for name, own in options.items():
        checked(settings_of("measure", name), own, lambda _, name=name: f"measure: {name}")
    results = [_measured(name, function, run, options.get(name, {})) for run in runs
               for name, function in functions.items()]  # fmt: skip
    write_json(out, results)


def _measured(name: str, function: Callable, run: TrainedRun, options: Mapping) -> dict:
    """The result of one measure of one seed."""
    begin, processor = time.perf_counter(), time.process_time()
    given = (run.train, run.test) if name == "accuracy_gap" else (run.train,)
    found = {}
    if run.model is not None:
        try:
            found = function(run.model, *given, **options)
        except ValueError as error:
            raise UserError(f"measure: {name}: {error}") from None
    cost = {"seconds": time.perf_counter() - begin, "cpu_seconds": time.process_time() - processor}
    return _result(name, run, found, options, cost)


def _result(name: str, run: TrainedRun, found: Mapping[str, Estimate], options: Mapping, cost: dict) -> dict:
    spec, device = run.spec, run.train.labels.device
    nothing = Estimate(math.nan, None, 0)
    quantities = {quantity: _jsonable(found.get(quantity, nothing)) for quantity in quantities_of(name)}
    return {
        **{key: getattr(spec, key) for key in ("paper", "run", "scale", "seed")},
        "measure": name,
        "status": run.metrics["status"],
        "quantities": quantities,
        "options": dict(options),
        "data": {"label": run.label, "images": len(run.train), "test_images": len(run.test)},
        **{key: run.metrics.get(key) for key in ("spec_digest", "weights_sha256")},
        "code_digest": measuring_code(spec, name),
        "cost": cost,
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "ended": now(),
    }


def _jsonable(estimate: Estimate) -> dict:
    def finite(value):
        return value if value is not None and math.isfinite(value) else None

    each = [finite(value) for value in estimate.each]
    interval = {"interval": [finite(value) for value in estimate.interval]} if estimate.interval else {}
    return {
        "value": finite(estimate.value), "std_error": finite(estimate.std_error), "samples": estimate.samples,
        "each": each, **interval,
    }  # fmt: skip
