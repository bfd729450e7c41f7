"""What a configuration will cost before anything is run, and how much of it is there; nothing here imports torch."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from tabulate import tabulate

from whysgd.measures.catalog import LANDSCAPES
from whysgd.results.machine import device_here
from whysgd.results.paths import METRICS, batch_name, measures_folder, run_folder
from whysgd.study.cost import MB, load_device
from whysgd.study.figures import needs
from whysgd.study.workflow import Study

NOTES = """\
A run is a row and a seed; one that several tables name counts in each. Times are those of one job at a time.
Done is a run whose metrics are there. Whether they are up to date, only `snakemake -n` knows."""


class Sums(NamedTuple):
    """Runs, each with one seed, and how many are done; seconds; megabytes; seconds of what is not there."""

    runs: int = 0
    done: int = 0
    train: float = 0.0
    measure: float = 0.0
    landscapes: float = 0.0
    disk: float = 0.0
    left: float = 0.0


def plan_text(config: Mapping, wanted: str | None = None) -> str:
    """Return one line to decide on, what each table costs on a device (by default the one here), and how to read it."""
    here = device_here(config["device"])
    device = load_device(wanted) if wanted else load_device(here, "cpu" if here == device_here("cpu") else "gpu")
    tables, parts = sums_of(Study(config, device))
    every, whose = _sum(parts.values()), "this" if device.name == here else "another"
    done = f"{every.done:,} are done" + (f", which leaves {_span(every.left)}" if every.done and every.left else "")
    lead = (
        f"{every.runs:,} runs of {_counted(len(config['papers']), 'paper')}: {_span(sum(every[2:5]))} on {whose} device"
        f" ({device.name}, {_counted(device.threads, 'thread')}), {_size(every.disk)} of disk; {done}"
    )
    rows = [(name, *sums[:2], *map(_span, sums[2:5]), _size(sums.disk)) for name, sums in tables.items()]
    headers = ["table", "runs", "done", "train", "measure", "landscapes", "disk"]
    shown = tabulate(rows, headers, disable_numparse=True, colalign=["left"] + ["right"] * 6)
    unknown = f"\n{here} has not been measured: `python benchmarks/devices.py` adds it to config/devices.json."
    return "\n\n".join([lead, shown, NOTES]) + (unknown if whose == "another" and not wanted else "")


def sums_of(study: Study) -> tuple[dict[str, Sums], dict[tuple, Sums]]:
    """Return what each table needs, and what each run, landscape, data set and store does."""
    parts: dict[tuple, Sums] = {}
    for (paper, run), spec in study.runs.items():
        images, parts[paper, run] = study.images(spec), _run_sums(study, paper, run)
        parts["data", spec.dataset] = Sums(disk=images.mb)
        if spec.store:
            copies = spec.store.copies * images.train * images.channels * images.size**2
            parts["store", spec.dataset, spec.store.name] = Sums(disk=copies / MB)
    tables = {}
    for paper, own in study.tables.items():
        for name, table in own.items():
            needed = {(paper, row["run"]) for row in table["rows"] if row["planned"]}
            for kind in {need for figure in study.figures(paper, name) for need in needs(figure)} & {*LANDSCAPES}:
                for file, (run, seeds) in study.landscape_points(paper, name, kind).items():
                    cost = study.landscape_cost(paper, run, seeds, kind)
                    left = 0 if Path(file).is_file() else cost.seconds
                    parts["points", file] = Sums(landscapes=cost.seconds, disk=cost.disk_mb, left=left)
                    needed.add(("points", file))
            tables[f"{paper}/{name}"] = _sum(parts[key] for key in needed)
    return tables, parts


def _run_sums(study: Study, paper: str, run: str) -> Sums:
    """Return what all batches of a run need."""
    found, folder = [], run_folder(study.scale, paper, run)
    for batch in study.batches[paper, run]:
        seeds, count = batch_name(batch), len(batch)
        train = study.training_cost(paper, run, seeds)
        jobs = {job: study.measuring_cost(paper, run, seeds, job) for job in study.measuring_jobs(paper)}
        disk = train.disk_mb + sum(cost.disk_mb for cost in jobs.values())
        done, measured = (folder / seeds / METRICS).is_file(), measures_folder(study.scale, paper, run, batch)
        left = sum(cost.seconds for job, cost in jobs.items() if not (done and (measured / f"{job}.json").is_file()))
        left += 0 if done else train.seconds
        seconds = sum(cost.seconds for cost in jobs.values())
        found.append(Sums(count, count * done, train.seconds, seconds, 0, disk, left))
    return _sum(found)


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
