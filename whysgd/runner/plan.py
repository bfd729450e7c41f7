"""Which jobs the wanted runs need, each with its command, and whether what it makes is there already.

Commands and files are those of the workflow's rules: rules/data.smk, rules/train.smk and rules/measure.smk.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from filelock import FileLock, Timeout

from whysgd.codedigest import code_digest
from whysgd.data.canonical import MANIFEST
from whysgd.errors import UserError, listed
from whysgd.files import read_json
from whysgd.jobs import class_folders, seeds_place, seeds_share_a_job, store_arguments
from whysgd.papers import expand
from whysgd.spec import RunSpec
from whysgd.training.outputs import (
    METRICS,
    finished_metrics,
    recorded_sources,
    reference_log,
    result_files,
    store_file,
)

WAITING, RUNNING, DONE, STOPPED, FAILED = "waiting", "running", "done", "stopped", "failed"


@dataclass(eq=False)
class Job:
    """One process to start: `python -m whysgd …`.

    Attributes:
        kind, name: build, train or measure; of what.
        command: the arguments, or None if what it makes is there; to be asked when all that it needs is done.
        log: file for its output.
        makes: all that its rule makes.
        needs: jobs that must be done before.
        specs: the runs that it trains or measures.
        state: one of `WAITING`, `RUNNING`, `DONE`, `STOPPED` (it can be continued) and `FAILED`.
        why: it failed.
        before: whether it was done before this command began.
    """

    kind: str
    name: str
    command: Callable[[], list[str] | None]
    log: Path
    makes: list[Path]
    needs: list["Job"] = field(default_factory=list)
    specs: list[RunSpec] = field(default_factory=list)
    state: str = WAITING
    why: str = ""
    before: bool = False

    @property
    def ready(self) -> bool:
        """Whether it can be started, or is done and nobody has looked."""
        return self.state == WAITING and all(job.state == DONE for job in self.needs)

    def is_elsewhere(self) -> bool:
        """Whether another process is training one of its runs."""
        return self.kind == "train" and any(map(_is_locked, self.specs))


def wanted_runs(config: Mapping, patterns: Sequence[str], seeds: Sequence[int] | None) -> dict[RunSpec, bool]:
    """The configured runs that are asked for, in the order of the patterns, then of the papers.

    A run whose gradient norms another one grafts comes before that one, asked for or not.

    Args:
        config: a validated configuration.
        patterns: of PAPER/RUN, as in a shell.
        seeds: only these; None takes all that are configured.

    Returns:
        the runs, and whether each was asked for.

    Raises:
        UserError: a pattern or a seed that no configured run has.
    """
    runs = expand(config)
    names = dict.fromkeys(f"{paper}/{run}" for paper, run, _ in runs)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise UserError(
                f"run: --runs {pattern!r}: no such run at scale {config['scale']}; allowed: {listed(names)}"
            )
    known = sorted({seed for _, _, seed in runs})
    for seed in seeds or ():
        if seed not in known:
            allowed = f"{', '.join(map(str, known))}; others with --config 'seeds=[…]'"
            raise UserError(f"run: --seed {seed}: not a configured seed; allowed: {allowed}")
    found: dict[RunSpec, bool] = {}

    def add(spec: RunSpec, asked: bool) -> None:
        if reference_log(spec) is not None:
            add(runs[spec.paper, spec.transform.reference, spec.seed], False)
        found[spec] = asked or found.get(spec, False)

    for pattern in patterns:
        for (paper, run, seed), spec in runs.items():
            if fnmatchcase(f"{paper}/{run}", pattern) and (not seeds or seed in seeds):
                add(spec, True)
    if not found:
        raise UserError(f"run: none of these runs has the seeds {', '.join(map(str, seeds))}")
    return found


def jobs_of(config: Mapping, specs: Iterable[RunSpec], measures: Sequence[str]) -> list[Job]:
    """The jobs of these runs, each after those that it needs: data, then trainings, then measures.

    Args:
        config: a validated configuration.
        specs: of `wanted_runs`.
        measures: what is measured of each.
    """
    builds: dict[str, Job] = {}
    trainings: list[Job] = []
    job_of: dict[tuple, Job] = {}
    groups: dict[tuple, list[RunSpec]] = {}
    for spec in specs:
        groups.setdefault((spec.paper, spec.run, None if seeds_share_a_job(spec) else spec.seed), []).append(spec)
    for group in groups.values():
        dataset = builds.setdefault(group[0].dataset, _dataset_job(config, group[0].dataset))
        needs = [dataset]
        if group[0].store:
            needs = [builds.setdefault(str(store_file(group[0])), _store_job(group[0], dataset))]
        needs += [job_of[spec.paper, spec.transform.reference, spec.seed] for spec in group if reference_log(spec)]
        trainings.append(_training_job(config, group, needs))
        job_of |= {(spec.paper, spec.run, spec.seed): trainings[-1] for spec in group}
    measurings = [_measuring_job(config, job, measures) for job in trainings] if measures else []
    return [*builds.values(), *trainings, *measurings]


def settle(jobs: Iterable[Job]) -> None:
    """Note which jobs were done before."""
    for job in jobs:
        if job.ready and job.command() is None:
            job.state, job.before = DONE, True


def place_of(specs: Sequence[RunSpec]) -> str:
    """The names of a job's runs, as paths of the workflow have them."""
    together = seeds_share_a_job(specs[0])
    last = seeds_place([spec.seed for spec in specs]) if together else f"seed-{specs[0].seed}"
    return f"{specs[0].paper}/{specs[0].run}/{last}"


def _named(specs: Sequence[RunSpec]) -> str:
    seeds = ", ".join(str(spec.seed) for spec in specs)
    return f"{specs[0].paper}/{specs[0].run} seed{'s' * (len(specs) > 1)} {seeds}"


def _is_locked(spec: RunSpec) -> bool:
    file = Path(spec.folder, ".lock")
    if not file.exists():
        return False
    try:
        with FileLock(file, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # The training will say it.
        return False


def _dataset_job(config: Mapping, name: str) -> Job:
    folder, own = Path("results/data", name), config["datasets"].get(name)
    files = [folder / MANIFEST, *(folder / f"{split}.safetensors" for split in ("train", "test"))]

    def command() -> list[str] | None:
        if all(file.is_file() for file in files) and not _newer(class_folders(own), files):
            return None
        datasets = json.dumps({} if own is None else {name: own})
        return [
            "build-dataset", name, "--datasets", datasets, "--data-dir", config["data_dir"], "--out", str(folder),
        ]  # fmt: skip

    return Job("build", f"data set {name}", command, folder / "build_dataset.log", files)


def _newer(files: Iterable[Path], others: Iterable[Path]) -> bool:
    """Whether one of the files was changed after one of the others."""
    newest = max((file.stat().st_mtime_ns for file in files), default=0)
    return newest > min(file.stat().st_mtime_ns for file in others)


def _store_job(spec: RunSpec, dataset: Job) -> Job:
    file, data = store_file(spec), Path("results/data", spec.dataset)
    description = file.with_suffix(".json")

    def command() -> list[str] | None:
        if file.is_file() and description.is_file():
            source = read_json(description).get("source", {})
            if source.get("sha256") == read_json(data / MANIFEST)["sha256"]:
                return None
        options = [*store_arguments(spec.store), "--data", str(data), "--out", str(file)]
        return ["build-store", spec.dataset, *options]

    name, log = f"stored copies {spec.dataset}/{file.stem}", file.with_suffix(".log")
    return Job("build", name, command, log, [file, description], [dataset])


def _training_job(config: Mapping, specs: list[RunSpec], needs: list[Job]) -> Job:
    first, data = specs[0], Path("results/data", specs[0].dataset)

    def command() -> list[str] | None:
        if all(map(is_trained, specs)):
            return None
        given = [spec.to_dict() for spec in specs] if seeds_share_a_job(first) else first.to_dict()
        inputs = ["--store", str(store_file(first))] if first.store else []
        inputs += ["--norms", str(log)] if (log := reference_log(first)) else []
        return [
            "train", "--spec", json.dumps(given), "--data", str(data), *inputs,
            "--out", *(spec.folder for spec in specs), *_device(config), "--engine", config["engine"],
            "--images-on", config["images_on"], "--checkpoint-seconds", str(config["checkpoint_seconds"]),
            "--tensorboard", "on" if config["tensorboard"] else "off",
        ]  # fmt: skip

    log = Path(f"results/{first.scale}/logs/train/{place_of(specs)}.log")
    makes = [Path(spec.folder, file) for spec in specs for file in result_files(spec)]
    return Job("train", _named(specs), command, log, makes, needs, specs)


def _device(config: Mapping) -> list[str]:
    return ["--device", config["device"], "--threads", str(config["threads"])]


def is_trained(spec: RunSpec) -> bool:
    """Whether the run has been trained to its end, by this code and on these data."""
    try:
        sources = recorded_sources(spec, Path("results/data", spec.dataset))
        # The weights of hundreds of large networks take minutes to read.
        code = code_digest("whysgd.training.loop")
        return finished_metrics(spec, Path(spec.folder), code, sources, verify=False) is not None
    except UserError:  # A job of its own will say it, or do better.
        return False


def _measuring_job(config: Mapping, training: Job, measures: Sequence[str]) -> Job:
    specs, measuring = training.specs, config["scales"][config["scale"]]["measuring"]
    options = {name: measuring[name] for name in measures if name in measuring}

    def command() -> list[str] | None:
        missing = {
            spec.folder: [name for name in measures if not _is_measured(spec, name, options.get(name, {}))]
            for spec in specs
        }
        names = [name for name in measures if any(name in own for own in missing.values())]
        if not names:
            return None
        folders = [folder for folder, own in missing.items() if own]
        given = {name: options[name] for name in names if name in options}
        return [
            "measure", *names, "--run", *folders, "--data", f"results/data/{specs[0].dataset}",
            "--out", *(measures_folder(spec) for spec in specs if spec.folder in folders),
            "--options", json.dumps(given), *_device(config),
        ]  # fmt: skip

    log = Path(f"results/{specs[0].scale}/logs/measure/{place_of(specs)}.log")
    makes = [Path(measures_folder(spec), f"{name}.json") for spec in specs for name in measures]
    return Job("measure", _named(specs), command, log, makes, [training], specs)


def measures_folder(spec: RunSpec) -> str:
    """Where the workflow puts what is measured of a run."""
    return f"results/{spec.scale}/measures/{spec.paper}/{spec.run}/seed-{spec.seed}"


def _is_measured(spec: RunSpec, name: str, options: Mapping) -> bool:
    file, metrics = Path(measures_folder(spec), f"{name}.json"), Path(spec.folder, METRICS)
    if not file.is_file() or _newer([metrics], [file]):
        return False
    try:
        found, trained = read_json(file), read_json(metrics)
    except UserError:
        return False
    code = code_digest("whysgd.measures.run", f"whysgd.measures.{name}")
    same = (found.get("spec_digest"), found.get("model_sha256"), found.get("options"), found.get("code_digest"))
    return same == (spec.digest, trained.get("model_sha256"), dict(options), code)
