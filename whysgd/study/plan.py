"""What a configuration will cost before anything is run, and how much of it is there; nothing here imports torch."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from tabulate import tabulate

from whysgd.data.shape import images_of
from whysgd.results.machine import device_here
from whysgd.results.paths import METRICS, batch_name, run_folder, seed_batches
from whysgd.study.cost import MB, Device, landscape_cost, load_device, measuring_cost, training_cost
from whysgd.study.landscapes import drawn_runs, landscape_kinds
from whysgd.study.papers import expand, tables_at
from whysgd.study.spec import RunSpec

NOTES = """\
A run is a row and a seed; one that several tables name counts in each. Times are those of one job at a time.
Done is a run whose metrics are there. Whether they are up to date, only `snakemake -n` knows."""


class Sums(NamedTuple):
    """Runs, each with one seed, and how many are done; seconds; megabytes."""

    runs: int = 0
    done: int = 0
    train: float = 0.0
    measure: float = 0.0
    landscapes: float = 0.0
    disk: float = 0.0


def plan_text(config: Mapping, wanted: str | None = None) -> str:
    """Return one line to decide on, what each table costs on a device (by default the one here), and how to read it."""
    here = device_here(config["device"])
    device = load_device(wanted) if wanted else load_device(here, "cpu" if here == device_here("cpu") else "gpu")
    tables, parts = sums_of(config, device)
    every = _sum(parts.values())
    rows = [
        (name, *sums[:2], *(_span(seconds) for seconds in sums[2:5]), _size(sums.disk)) for name, sums in tables.items()
    ]
    headers = ["table", "runs", "done", "train", "measure", "landscapes", "disk"]
    whose = "this" if device.name == here else "another"
    lead = (
        f"{every.runs:,} runs of {_counted(len(config['papers']), 'paper')}: {_span(sum(every[2:5]))} on {whose} device"
        f" ({device.name}, {_counted(device.threads, 'thread')}), {_size(every.disk)} of disk; {every.done:,} are done"
    )
    shown = tabulate(rows, headers, disable_numparse=True, colalign=["left"] + ["right"] * 6)
    unknown = f"\n{here} has not been measured: `python benchmarks/devices.py` adds it to config/devices.json."
    return "\n\n".join([lead, shown, NOTES]) + (unknown if whose == "another" and not wanted else "")


def sums_of(config: Mapping, device: Device) -> tuple[dict[str, Sums], dict[tuple, Sums]]:
    """Return what each table needs, and what each run, landscape, data set and store does."""
    scale, specs = config["scales"][config["scale"]], expand(config)
    settings, size = scale["measuring"], scale.get("seeds_per_job")
    images = {name: images_of(config, name) for name in {spec.dataset for spec in specs.values()}}
    runs: dict[tuple, list[RunSpec]] = {}
    parts: dict[tuple, Sums] = {(name,): Sums(disk=own.mb) for name, own in images.items()}
    for spec in specs.values():
        runs.setdefault((spec.paper, spec.run), []).append(spec)
        if spec.store:
            own = images[spec.dataset]
            copies = spec.store.copies * own.train * own.channels * own.size**2
            parts[spec.dataset, "store", spec.store.name] = Sums(disk=copies / MB)
    for key, (spec, *others) in runs.items():
        folder, found = run_folder(spec.scale, *key), []
        for batch in seed_batches(folder, [spec.seed, *(other.seed for other in others)], size):
            count, done = len(batch), (folder / batch_name(batch) / METRICS).is_file()
            train = training_cost(spec, count, images[spec.dataset], device)
            measure = measuring_cost(spec, config["measures"], settings, count, images[spec.dataset], device)
            measuring = measure.seconds if config["measures"] else 0
            found.append(Sums(count, count * done, train.seconds, measuring, 0, train.disk_mb + measure.disk_mb))
        parts[key] = _sum(found)
    tables = {}
    for paper in config["papers"]:
        for name, table in tables_at(config, paper).items():
            needed = {(paper, row["run"]) for row in table["rows"] if row["planned"]}
            for kind in landscape_kinds(config, table):
                chunks = settings["landscape"][f"{kind}_chunks"]
                for spec in drawn_runs(specs.values(), paper, table, kind):
                    cost = landscape_cost(spec, kind, settings["landscape"], images[spec.dataset], device)
                    parts[paper, spec.run, kind] = Sums(landscapes=chunks * cost.seconds, disk=chunks * cost.disk_mb)
                    needed.add((paper, spec.run, kind))
            tables[f"{paper}/{name}"] = _sum(parts[key] for key in needed)
    return tables, parts


def _sum(parts: Iterable[Sums]) -> Sums:
    return Sums(*map(sum, zip(Sums(), *parts, strict=True)))


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" + "s" * (number != 1)


def _span(seconds: float) -> str:
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:,.{0 if seconds >= 10 * length else 1}f} {unit}"
    return f"{seconds:.0f} s" if seconds else "–"


def _size(mb: float) -> str:
    return f"{mb / 1024:.1f} GB" if mb >= 1000 else f"{max(mb, 1):.0f} MB"
