"""Whether a record can be had again: its run is trained and measured anew and compared with it, number by number."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

from whysgd.errors import UserError
from whysgd.files import read_json
from whysgd.results.paths import dataset_folder
from whysgd.results.records import all_columns, read_record, records_of
from whysgd.study.spec import RunSpec

# Of a record, what training alone decides; times, versions and code are told, not compared.
COMPARED = ("status", "steps", "final", "best", "weights_sha256")
TABLES = ("history", "noise", "layers")


def verify_record(file: Path, data: Path | None, store: Path | None, device) -> list[str]:
    """Train and measure the run of a record again, with today's code on this machine, and compare.

    Numbers must be equal as the record keeps them: on the same kind of processor, with the same versions of packages,
    training is deterministic. All seeds of its batch are trained: what one pass sums depends on how many share it.

    Args:
        file: of the record.
        data: folder of its data set; None takes results/data/<dataset>.
        store: file of its stored copies, if it has; None takes the workflow's place.
        device: where to train.

    Returns:
        what differs, `key: recorded → now`, or the largest relative difference of a column. What the record does not
        have is not compared, nor are landscapes.

    Raises:
        UserError: the record is damaged, its data set is not there or another one, or its run takes the gradient norms
            of another run, which records do not have.
    """
    from whysgd.measures.run import load_runs, measure_batch
    from whysgd.training.loop import Options, train

    record = read_record(file)
    metrics = record["metrics"]
    spec = RunSpec.from_dict(metrics["settings"])
    if spec.reference:
        raise UserError(f"{file}: takes the gradient norms of {spec.reference}, which records do not have")
    data, measures = data or dataset_folder(spec.dataset), record["measures"]
    if read_json(data / "manifest.json").get("sha256") != metrics["data"]["sha256"]:
        raise UserError(f"{file}: was trained on other data: {data} has another sha256")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "run")
        seeds = metrics.get("batch", [spec.seed])
        specs = [RunSpec.from_dict({**spec.to_dict(), "seed": seed}) for seed in seeds]
        trained = train(specs, data, out, Options(device), store)
        [now] = (one for one in trained if one["seed"] == spec.seed)
        options = {name: result["options"] for name, result in measures.items()}
        if measures:
            loaded = load_runs(out, data, device, seeds=[spec.seed])
            measure_batch(list(measures), loaded, out / "measures" / "all.json", options)
        [again] = (one for one in records_of(out) if one["metrics"]["seed"] == spec.seed)
        differences = _differences({key: metrics[key] for key in COMPARED if metrics.get(key) is not None}, now, "")
        for name, result in measures.items():
            differences += _differences(result["quantities"], again["measures"][name]["quantities"], f"{name}.")
        for table in TABLES:
            if table in record:
                differences += _different_rows(record[table], all_columns(out, table, spec.seed), table)
    if "noise_norms" in record:
        differences += _differences(record["noise_norms"], again.get("noise_norms"), "noise_norms.")
    return differences


def _different_rows(recorded: Mapping[str, list], now: Mapping[str, list], table: str) -> list[str]:
    """What differs in the rows that a record keeps, by step and, where there are several, layer."""
    keys = [name for name in ("step", "layer") if name in recorded]
    places = {key: place for place, key in enumerate(zip(*(now.get(name, []) for name in keys), strict=True))}
    rows = list(zip(*(recorded[name] for name in keys), strict=True))
    if missing := [row for row in rows if row not in places]:
        return [f"{table}: {len(missing)} of {len(rows)} lines are not there, the first of step {missing[0][0]}"]
    found = {
        name: [now[name][places[row]] if name in now else None for row in rows] for name in recorded if name not in keys
    }
    return _differences({name: recorded[name] for name in found}, found, f"{table}.")


def _differences(recorded, now, path: str) -> list[str]:
    """What differs between two values, the names of mappings' keys in front; keys that the first lacks do not count."""
    if recorded == now:
        return []
    if isinstance(recorded, Mapping) and isinstance(now, Mapping):
        found = [_differences(value, now.get(key), f"{path}{key}.") for key, value in recorded.items()]
        return [line for lines in found for line in lines]
    name = path.removesuffix(".")
    if isinstance(recorded, list) and isinstance(now, list):
        if len(recorded) != len(now):
            return [f"{name}: {len(recorded)} lines → {len(now)}"]
        pairs = [(a, b) for a, b in zip(recorded, now, strict=True) if a != b]
        largest = max((_relative(a, b) for a, b in pairs), default=0.0)
        return [f"{name}: {len(pairs)} of {len(recorded)} lines differ (by up to {largest:.1e} of their size)"]
    return [f"{name}: {recorded} → {now}"]


def _relative(a, b) -> float:
    if not isinstance(a, int | float) or not isinstance(b, int | float):
        return float("inf")
    return abs(a - b) / max(abs(a), abs(b), 1e-300)
