"""Whether records can be had again: their runs are trained and measured anew and compared, number by number."""

import io
import math
import statistics
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pandas as pd

from whysgd.errors import UserError
from whysgd.files import read_json
from whysgd.results.paths import NORMS, dataset_folder, record_file
from whysgd.results.record_model import read_record
from whysgd.results.records import FIRST_STEPS, all_columns, columns_of, digits_of, records_of
from whysgd.study.spec import RunSpec

SAME_BITS, ROUNDING, ANOTHER = "same bits", "same within rounding", "another result"
# What the first two are called of the first steps alone.
OF_START = {SAME_BITS: "same first steps", ROUNDING: "first steps within rounding"}
# On another kind of machine: how many steps are judged by the largest relative difference of their losses and norms,
# and how far the accuracy at the end may be, in standard deviations. Rounding alone changes later steps by more.
EARLY, TOLERANCE, DEVIATIONS = 3, {"fp32": 1e-4, "tf32": 1e-2, "bf16": 1e-1}, 3
# Of a record, what training alone decides; times, versions and code are told, not compared.
COMPARED = ("status", "steps", "final", "best", "weights_sha256")
TABLES = {"history": "history", "norms": "gradient_norms", "noise": "noise", "layers": "layers"}
COLUMNS = ("record", "verdict", "machine", "first difference", "test accuracy [%]", "measures")


def verify_records(
    files: Iterable[Path], data: Path | None, store: Path | None, device, first_steps: bool = False
) -> Iterator[dict[str, str]]:
    """Train and measure the runs of records again, with today's code on this machine, and compare.

    All seeds of a record's batch are trained: what one pass sums depends on how many share it. If the run takes the
    gradient norms of another one, that one is trained first, as its own record says. On the same kind of machine
    (processor, instruction set, threads, version of torch; no GPU) training is deterministic, and every number must be
    equal as the record keeps it, but for landscapes. Elsewhere rounding differs, and a long run amplifies it: there
    losses and norms of the first steps, as far as a record has them, must agree within `TOLERANCE`, and the final test
    accuracy within `DEVIATIONS` standard deviations, of the recorded seeds or of the sampling of the test images, the
    larger of the two.

    Args:
        files: of the records.
        data, store: folder of their data set and file of stored copies; None takes the workflow's.
        device: where to train.
        first_steps: make and compare the first `FIRST_STEPS` steps alone: their gradient norms, and an end among them.

    Returns:
        an iterator over the `COLUMNS` of one row for each record; verdict is `SAME_BITS`, `ROUNDING` or `ANOTHER`, with
        `first_steps` as `OF_START` has it.

    Raises:
        UserError: a record is damaged, its data set is not there or another one, or its run takes the gradient norms
            of another run: if that one has no record, and always with `first_steps`.
    """
    batches: dict[tuple, dict[Path, dict]] = {}
    for file in map(Path, files):
        record = read_record(file)
        if first_steps and (other := RunSpec.from_dict(record["metrics"]["settings"]).reference):
            raise UserError(f"{file}: takes the gradient norms of {other}, of all steps; leave out --first-steps")
        seeds = record["metrics"]["batch"]
        batches.setdefault((file.parent, *seeds), {})[file] = record
    return (_rows_of_first_steps if first_steps else _rows)(batches, data, store, device)


def _rows_of_first_steps(batches: Mapping[tuple, dict[Path, dict]], data, store, device) -> Iterator[dict[str, str]]:
    """Make the first steps of the batches again, one after another, and yield the row of each record."""
    for records in batches.values():
        again = _first_steps(records, data, store, device)
        for file, record in records.items():
            metrics, (facts, norms) = record["metrics"], again[record["metrics"]["seed"]]
            if metrics["steps"] > FIRST_STEPS:
                metrics = metrics | {"steps": FIRST_STEPS, "status": "finished"}
            start = {"metrics": metrics, "norms": record["norms"], "measures": {}}
            row = compared(start, start | {"metrics": metrics | facts, "norms": norms}, [])
            told = {"verdict": OF_START.get(row["verdict"], ANOTHER), "test accuracy [%]": "–", "measures": "–"}
            yield {"record": str(file), **row, **told}


def _first_steps(records: Mapping[Path, dict], data, store, device) -> dict[int, tuple[dict, dict[str, list]]]:
    """Make the first steps of the batch of some records; by seed, what its metrics would say, and its norms."""
    import torch

    from whysgd.data.canonical import load_dataset
    from whysgd.training.device import device_name
    from whysgd.training.inputs import read_inputs
    from whysgd.training.loop import Options, Trainer
    from whysgd.training.norm_log import norms_csv
    from whysgd.training.results import versions

    (file, record), *_ = records.items()
    metrics = record["metrics"]
    # Measuring noise changes no step, and takes passes over all images.
    settings = metrics["settings"] | {"noise": None}
    specs = [RunSpec.from_dict(settings | {"seed": seed}) for seed in metrics["batch"]]
    dataset = load_dataset(_data_of(file, metrics, data))
    trainer = Trainer(specs, dataset, Options(device), read_inputs(specs, dataset, store, []))
    try:
        while trainer.batch is not None and trainer.batch.step < FIRST_STEPS:
            trainer.after_step(trainer.step())
    finally:
        trainer.loader.close()
    facts = {
        "machine": trainer.machine, "device": device_name(trainer.device), "precision": trainer.precision,
        "threads": torch.get_num_threads(), "versions": versions(),
    }  # fmt: skip
    states = dict(zip(trainer.seeds, trainer.states, strict=True))
    # Through the log's text, so that numbers have the digits that a record keeps of it.
    log = pd.read_csv(io.StringIO(norms_csv({seed: one.norms[: one.step].tolist() for seed, one in states.items()})))
    return {
        seed: (
            {**facts, "steps": state.step, "status": "diverged" if state.ended == "diverged" else "finished"},
            columns_of(log[log.seed == seed], ("step", "gradient_norm")),
        )
        for seed, state in states.items()
    }


def _data_of(file: Path, metrics: Mapping, data: Path | None) -> Path:
    """Return the folder of a record's data set; refuse one with another sha256."""
    place = data or dataset_folder(metrics["settings"]["dataset"])
    if read_json(place / "manifest.json").get("sha256") != metrics["data"]["sha256"]:
        raise UserError(f"{file}: was trained on other data: {place} has another sha256")
    return place


def _rows(batches: Mapping[tuple, dict[Path, dict]], data, store, device) -> Iterator[dict[str, str]]:
    """Make the batches again, one after another, and yield the row of each record."""
    for (folder, *_), records in batches.items():
        again = _made_again(records, data, store, device)
        others = [read_record(file)["metrics"]["final"]["test_accuracy"] for file in sorted(folder.glob("seed-*.json"))]
        for file, record in records.items():
            yield {"record": str(file), **compared(record, again[record["metrics"]["seed"]], others)}


def _made_again(records: Mapping[Path, dict], data, store, device) -> dict[int, dict]:
    """Train and measure the batch of some records again; the records of its seeds, with whole tables, by seed."""
    from whysgd.measures.run import load_runs, measure_batch

    (file, record), *_ = records.items()
    with tempfile.TemporaryDirectory() as folder:
        out = _trained(file, record["metrics"], Path(folder), data, store, device)
        options = {name: result["options"] for one in records.values() for name, result in one["measures"].items()}
        if options:
            wanted = [one["metrics"]["seed"] for one in records.values()]
            measure_batch(list(options), load_runs(out, data, device, seeds=wanted), out / "measures/all.json", options)
        found = {one["metrics"]["seed"]: one for one in records_of(out)}
        return {own: one | {key: all_columns(out, name, own) for key, name in TABLES.items()}
                for own, one in found.items()}  # fmt: skip


def _trained(file: Path, metrics: Mapping, folder: Path, data, store, device) -> Path:
    """Train the batch of a record in a folder below this one, once, and return that folder.

    If it takes gradient norms, those of each seed come from the batch that the record of this seed names, which is
    trained first.
    """
    from whysgd.training.loop import Options, train

    spec, seeds = RunSpec.from_dict(metrics["settings"]), metrics["batch"]
    place, out = _data_of(file, metrics, data), folder / spec.run / "-".join(map(str, seeds))
    if out.exists():
        return out
    logs, norms = [], folder / f"{spec.run}_{NORMS}"
    for seed in seeds if spec.reference else ():
        other = file.parents[3] / record_file(spec.scale, spec.paper, spec.reference, seed)
        if not other.is_file():
            raise UserError(f"{file}: takes the gradient norms of {spec.reference}, and there is no {other}")
        known = read_record(other)["metrics"]
        log = _trained(other, known, folder, data, store if known["settings"]["store"] else None, device) / NORMS
        lines = pd.read_csv(log, dtype=str)
        logs.append(lines[lines.seed == str(seed)])
    if logs:
        pd.concat(logs).to_csv(norms, index=False)
    train([spec.replace(seed=seed) for seed in seeds], place, out, Options(device), store, [norms] if logs else [])
    return out


def compared(record: Mapping, again: Mapping, accuracies: Iterable[float | None]) -> dict[str, str]:
    """Return the `COLUMNS`, apart from the first, of a record and of the same run made again with whole tables.

    `accuracies`: final test accuracies [%] of the recorded seeds, for their spread.
    """
    metrics, now = record["metrics"], again["metrics"]
    kind, kind_now = (_kind(one) for one in (metrics, now))
    other = next((f"another {key}" for key in kind if kind[key] != kind_now[key]), "same kind")
    other = "a GPU" if now["device"] != kind_now["processor"] else other if all(kind.values()) else "not known"
    tolerance, steps = TOLERANCE[now["precision"]], _by_step(record, again)
    first = min((step for step, size in steps.items() if size), default=None)
    early = [size for step, size in _by_step(record, again, beyond_rounding=True).items() if step <= EARLY]
    changed = _changed({key: metrics[key] for key in COMPARED if metrics.get(key) is not None}, now)
    off = _changed(*({"noise_norms": one.get("noise_norms"), **_quantities(one)} for one in (record, again)))
    largest = max(off, key=lambda key: (not key.endswith("std_error"), off[key]), default="")
    end, end_now = metrics["final"]["test_accuracy"], now["final"]["test_accuracy"]
    allowed = DEVIATIONS * _deviation(end, metrics["data"]["test_images"], accuracies)
    near = end == end_now or (None not in (end, end_now) and abs(end - end_now) <= allowed)
    if first is None and not (changed or off):
        verdict = SAME_BITS
    elif other == "same kind":
        verdict = ANOTHER
    elif first is not None or changed:
        alike = max(early, default=0.0) <= tolerance and near and metrics["status"] == now["status"]
        verdict = ROUNDING if alike else ANOTHER
    else:  # Measures of the same weights.
        verdict = ROUNDING if off[largest] <= tolerance else ANOTHER
    return {
        "verdict": verdict,
        "machine": other,
        "first difference": next(iter(changed), "none") if first is None else f"step {first}, by {steps[first]:.1e}",
        "test accuracy [%]": f"{_percent(end)} → {_percent(end_now)} (± {allowed:.2f})",
        "measures": f"{len(off)} differ, {largest} by {off[largest]:.1e}" if off else "same",
    }


def _kind(metrics: Mapping) -> dict:
    """What decides the last bits; None where the machine does not say."""
    machine = metrics["machine"]
    return {
        "device": metrics["device"], "processor": machine.get("processor"),
        "instruction set": machine.get("instruction_set"), "number of threads": metrics["threads"],
        "version of torch": metrics["versions"]["torch"],
    }  # fmt: skip


def _quantities(record: Mapping) -> dict:
    return {name: result["quantities"] for name, result in record["measures"].items()}


def _by_step(record: Mapping, again: Mapping, beyond_rounding: bool = False) -> dict[int, float]:
    """The largest relative difference of losses and norms at each step that the record keeps.

    A record keeps a few digits. Two numbers that differ by next to nothing may be rounded to neighbours, so one unit of
    the last digit is taken off where differences `beyond_rounding` are asked for.
    """
    sizes: dict[int, float] = {}
    for table in TABLES:
        now = dict(_numbers(again.get(table) or {}))
        for key, value in _numbers(record.get(table) or {}):
            step = key[0]
            size = _relative(value, now.get(key))
            if beyond_rounding and 0 < size < math.inf:
                size = max(0.0, size - _last_digit(max(abs(value), abs(now[key])), digits_of(TABLES[table])))
            sizes[step] = max(sizes.get(step, 0.0), size)
    return sizes


def _numbers(table: Mapping[str, list]) -> Iterator[tuple[tuple, float | None]]:
    """Yield the losses and norms of a table, each after its step, layer and column."""
    for name, column in table.items():
        # An accuracy is of few images: it leaps where losses change by their last digits.
        if name not in ("step", "layer") and not name.endswith("accuracy"):
            layers = table.get("layer", [None] * len(column))
            for step, layer, value in zip(table["step"], layers, column, strict=True):
                yield (step, layer, name), value


def _last_digit(number: float, digits: int) -> float:
    """One unit of the last of so many significant digits, as a part of the number."""
    return 10.0 ** (math.floor(math.log10(number)) + 1 - digits) / number


def _changed(recorded, now, path: str = "") -> dict[str, float]:
    """What differs between nested mappings and lists, with its relative difference; keys of the first alone count."""
    if isinstance(recorded, list) and isinstance(now, list) and len(recorded) == len(now):
        parts = (_changed(a, b, path) for a, b in zip(recorded, now, strict=True))
    elif isinstance(recorded, Mapping) and isinstance(now, Mapping):
        parts = (_changed(value, now.get(key), f"{path}.{key}".strip(".")) for key, value in recorded.items())
    else:
        return {} if recorded == now else {path: _relative(recorded, now)}
    found: dict[str, float] = {}
    for part in parts:
        found |= {key: max(size, found.get(key, 0.0)) for key, size in part.items()}
    return found


def _relative(a, b) -> float:
    if a == b:
        return 0.0
    if not isinstance(a, int | float) or not isinstance(b, int | float):
        return math.inf
    return abs(a - b) / max(abs(a), abs(b), 1e-300)


def _deviation(accuracy: float | None, images: int, accuracies: Iterable[float | None]) -> float:
    """The standard deviation [%] over seeds, or that of an accuracy on so many test images, if that is larger."""
    share = (accuracy or 0) / 100
    seeds = [one for one in accuracies if one is not None]
    return max(statistics.stdev(seeds) if len(seeds) > 1 else 0.0, 100 * math.sqrt(share * (1 - share) / images))


def _percent(accuracy: float | None) -> str:
    return "–" if accuracy is None else f"{accuracy:.2f}"
