"""What a configuration will cost before anything is run: runs, hours and disk of each table, and what is done already.

`python -m whysgd plan` prints it; the progress of a running workflow (`whysgd.overall`) is weighted by it. This module
never imports torch.
"""

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from whysgd.measures.catalog import LANDSCAPES
from whysgd.results.records import ROOT as RECORDS
from whysgd.study.codedigest import code_digest
from whysgd.study.cost import (
    NOTHING,
    START,
    WARM,
    Cost,
    Images,
    data_mb,
    images_of,
    landscape_cost,
    measuring_cost,
    training_cost,
)
from whysgd.study.papers import expand, load_paper, tables_at
from whysgd.study.spec import RunSpec, in_lockstep, total_steps, trained_images
from whysgd.study.speeds import Device

Key = tuple[str, str, int]


@dataclass
class PlannedRun:
    """One run, what it costs and how far it is.

    Attributes:
        spec: what is run.
        training, measuring: what its share of a job costs.
        state: "done" (with these settings and this code), "started" (there is a checkpoint), "old" (done with other
            settings or code, so it is trained again), or "".
        share: of its training, how much is done.
        measured: how much of its measuring is done, from 0 to 1.
        recorded: whether its numbers, without weights, are kept in results/records.
        seconds: that it took itself, or a run like it but for the seed, on this device; None if there is none.
    """

    spec: RunSpec
    training: Cost
    measuring: Cost
    state: str = ""
    share: float = 0.0
    measured: float = 0.0
    recorded: bool = False
    seconds: float | None = None

    @property
    def train_seconds(self) -> float | None:
        """What it takes, as measured where it, or its like, has been run on this device, else as predicted."""
        return self.training.seconds if self.seconds is None else self.seconds


@dataclass
class Landscape:
    """The landscape of a kind, "line" or "plane", of a run; how many of its parts are there."""

    spec: RunSpec
    kind: str
    cost: Cost
    parts: int
    done: int = 0


@dataclass
class Plan:
    """What a configuration asks for.

    Attributes:
        runs: by (paper, run, seed).
        landscapes: by (paper, run, kind).
        tables: (paper, table): the keys of its runs and landscapes.
        data: megabytes of data sets and stores, by name.
        device: whose speeds these are.
    """

    config: Mapping
    device: Device
    runs: dict[Key, PlannedRun]
    landscapes: dict[tuple[str, str, str], Landscape]
    tables: dict[tuple[str, str], tuple[list[Key], list[tuple]]] = field(default_factory=dict)
    data: dict[str, float] = field(default_factory=dict)


def make_plan(config: Mapping, device: Device) -> Plan:
    """The plan of a configuration, for a device.

    Raises:
        UserError: a setting that cannot be run.
    """
    specs = expand(config)
    options = config["scales"][config["scale"]]["measuring"]
    start = WARM if config["warm"] else START
    images = {name: images_of(config, name) for name in {spec.dataset for spec in specs.values()}}
    together: dict[tuple[str, str], list[RunSpec]] = {}
    for spec in specs.values():
        together.setdefault((spec.paper, spec.run), []).append(spec)
    runs = {}
    for (paper, _), seeds in together.items():
        job = seeds if load_paper(paper)["seeds_together"] and in_lockstep(seeds) else seeds[:1]
        training = _share(training_cost(job, images[seeds[0].dataset], device, start), len(job))
        measuring = _measuring(seeds[0], config["measures"], options, images[seeds[0].dataset], device, start)
        for spec in seeds:
            runs[spec.paper, spec.run, spec.seed] = PlannedRun(spec, training, measuring)
    plan = Plan(config, device, runs, {}, data=data_mb(list(specs.values()), images))
    for paper in config["papers"]:
        for table, content in tables_at(config, paper).items():
            rows = {row["run"] for row in content["rows"] if row["planned"]}
            drawn = []
            for kind in landscape_kinds(config, content):
                for spec in drawn_runs(specs.values(), paper, content, kind):
                    key = (paper, spec.run, kind)
                    cost = landscape_cost(spec, kind, options["landscape"], images[spec.dataset], device, start)
                    plan.landscapes[key] = Landscape(spec, kind, cost, options["landscape"][f"{kind}_chunks"])
                    drawn.append(key)
            plan.tables[paper, table] = ([key for key in runs if key[0] == paper and key[1] in rows], drawn)
    return plan


def landscape_kinds(config: Mapping, table: Mapping) -> list[str]:
    """Which landscapes a table's figures show: "line", "plane"."""
    return sorted({LANDSCAPES[name] for name in table["figures"] if name in LANDSCAPES}) if config["measures"] else []


def drawn_runs(specs: Iterable[RunSpec], paper: str, table: Mapping, kind: str) -> list[RunSpec]:
    """The runs of a table whose landscapes of a kind are drawn, in order, at their first seed."""
    rows = dict.fromkeys(row["run"] for row in table["rows"] if row["planned"])
    first: dict[str, RunSpec] = {}
    for spec in specs:
        if spec.paper == paper and (spec.run not in first or spec.seed < first[spec.run].seed):
            first[spec.run] = spec
    return [first[run] for run in (rows if kind == "line" else table["planes"])]


def _measuring(
    spec: RunSpec, measures: list[str], options: Mapping, images: Images, device: Device, start: float
) -> Cost:
    if not measures:
        return NOTHING
    if options["together"]:
        return measuring_cost(spec, measures, options, images, device, start)
    cost = NOTHING
    for measure in measures:
        cost += measuring_cost(spec, [measure], options, images, device, start)
    return cost


def _share(cost: Cost, runs: int) -> Cost:
    """A run's share of a job that trains several."""
    seconds = None if cost.seconds is None else cost.seconds / runs
    return Cost(seconds, cost.memory_mb, cost.disk_mb / runs, cost.working_mb / runs, cost.scaled)


def look(plan: Plan, records: Path = RECORDS) -> None:
    """See what is done: read the metrics, measures, landscapes, checkpoints and records that are there."""
    code = code_digest("whysgd.training.loop")
    seconds: dict[str, list[float]] = {}
    for run in plan.runs.values():
        spec, folder, digest = run.spec, Path(run.spec.folder), run.spec.digest
        metrics = _json(folder / "metrics.json") or {}
        if metrics:
            same = (metrics.get("spec_digest"), metrics.get("code_digest")) == (digest, code)
            run.state, run.share = ("done", 1.0) if same else ("old", 0.0)
        else:
            run.share = _checkpointed(Path(_trained_in(plan, spec)), plan, spec)
            run.state = "started" if run.share else ""
        record = _json(records / spec.scale / spec.paper / spec.run / f"seed-{spec.seed}.json") or {}
        recorded = record.get("metrics") or {}
        run.recorded = recorded.get("spec_digest") == digest
        for found in (metrics, recorded):
            if found.get("spec_digest") == digest and found.get("device") == plan.device.name:
                seconds.setdefault(_alike(spec), []).append(seconds_of(found))
        if run.state == "done":
            run.measured = _measured(spec, plan.config, metrics)
    for run in plan.runs.values() if seconds else ():
        if alike := seconds.get(_alike(run.spec)):
            run.seconds = sum(alike) / len(alike)
    for landscape in plan.landscapes.values():
        spec = landscape.spec
        folder = Path(f"results/{spec.scale}/landscapes/{spec.paper}/{spec.run}/seed-{spec.seed}")
        parts = (folder / f"{landscape.kind}_{i}-of-{landscape.parts}.csv" for i in range(landscape.parts))
        landscape.done = sum(part.is_file() for part in parts)


def seconds_of(metrics: Mapping) -> float:
    """What a finished run took: the processor's time, if that is what computed, else that of its steps."""
    alone = metrics.get("engine") == "eager" and metrics.get("threads") == 1 and metrics.get("sessions") == 1
    return (
        metrics["cpu_seconds"]
        if alone and metrics.get("cpu_seconds")
        else metrics["steps"] * metrics["seconds_per_step"]
    )


def _alike(spec: RunSpec) -> str:
    return json.dumps(spec.to_dict() | {"seed": 0}, sort_keys=True)


def _json(file: Path) -> dict | None:
    """A JSON file; None if it is missing or not whole: then what it is about counts as not done."""
    with suppress(OSError, ValueError):
        found = json.loads(file.read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else None
    return None


def _trained_in(plan: Plan, spec: RunSpec) -> str:
    """Where the checkpoint of a run lies: seeds that are trained together have it in the folder of the first."""
    if load_paper(spec.paper)["seeds_together"] and in_lockstep([spec]):
        return next(run.spec.folder for key, run in plan.runs.items() if key[:2] == (spec.paper, spec.run))
    return spec.folder


def _measured(spec: RunSpec, config: Mapping, metrics: Mapping) -> float:
    """How much of a run's measuring is there, of the weights that are there and with the scale's options."""
    measures, options = config["measures"], config["scales"][config["scale"]]["measuring"]
    folder = Path(f"results/{spec.scale}/measures/{spec.paper}/{spec.run}/seed-{spec.seed}")
    there = 0
    for measure in measures:
        found = _json(folder / f"{measure}.json") or {}
        weights = [one.get("model_sha256") for one in (found, metrics)]
        same = found.get("options") == options.get(measure, {}) and weights[0] == weights[1]
        there += same and found.get("code_digest") == _measuring_code(measure)
    return there / len(measures) if measures else 1.0


@cache
def _measuring_code(measure: str) -> str:
    return code_digest("whysgd.measures.run", f"whysgd.measures.{measure}")


def _checkpointed(folder: Path, plan: Plan, spec: RunSpec) -> float:
    """How much of a run the newest checkpoint in a folder has."""
    from whysgd.training.outputs import saved_step  # It loads what the workflow need not load at parse time.

    images = trained_images(spec, images_of(plan.config, spec.dataset).train)
    return min(1.0, (saved_step(folder) or 0) / total_steps(spec, images))
