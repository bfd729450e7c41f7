"""What a configuration asks the workflow for: jobs and what they cost, tables, claims and figures, and what each reads.

Input functions and params of the rules look things up here. Nothing imports torch, pandas or matplotlib: every job of
the workflow parses the rules.
"""

import hashlib
import json
import os
import re
import shlex
import sys
from collections.abc import Collection, Iterator, Mapping
from functools import cached_property
from pathlib import Path

from whysgd.data.shape import Images, class_folders, images_of
from whysgd.errors import UserError, listed
from whysgd.measures.catalog import LANDSCAPES, View
from whysgd.report.colours import run_colours
from whysgd.results import paths
from whysgd.study.changes import scale_note
from whysgd.study.claims import Claim, needed_measures
from whysgd.study.cost import Cost, Device, landscape_cost, load_device, measuring_cost, network_of, training_cost
from whysgd.study.figures import ACCURACY, FIGURES, FIRST_SEED, FRAMES, GRID, NOISE, ROWS, needs
from whysgd.study.papers import claims_at, load_paper, scale_of, scaled_spec, seeds_of, tables_at
from whysgd.study.spec import RunSpec

MEMORY_MARGIN = 1.5
SPLITS = {"manifest": "manifest.json", "train": "train.safetensors", "test": "test.safetensors"}


def use_this_copy(folder: str | Path) -> None:
    """Let jobs run this interpreter and import the package from `folder`, wherever another copy is installed.

    In a conda environment or container Snakemake puts that one's interpreter in front.
    """
    # Methods from elsewhere, that are named by dotted paths, stay within reach.
    others = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path not in ("", str(folder))]
    os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), *others])
    folder, name = os.path.split(sys.executable)
    os.environ["PATH"] = folder + os.pathsep + os.environ["PATH"]
    if shlex.quote(folder) != folder:
        sys.executable = name  # Snakemake starts scripts and jobs with it, without quotes; it is the first in PATH.


class Study:
    """A validated configuration, laid out for the rules; one with `recorded` takes results from records.

    Attributes:
        scale: under which results lie: that of the configuration, or recorded/<scale>.
        runs, seeds: the specification of each run, with its first seed, and all its seeds, by (paper, run).
        device: the measured device whose speed stands for that of the jobs.
    """

    def __init__(self, config: Mapping, device: Device | None = None):
        self.config, self.recorded = config, config.get("recorded")
        self.device = device or load_device("cpu" if config["device"] == "cpu" else "gpu")
        self.scale = f"recorded/{config['scale']}" if self.recorded else config["scale"]
        self.measuring = config["scales"][config["scale"]]["measuring"]
        self.seeds = {
            (paper, run): seeds for paper in config["papers"] for run, seeds in seeds_of(config, paper).items()
        }
        self.runs = {
            (paper, run): scaled_spec(config, paper, run, seeds[0]) for (paper, run), seeds in self.seeds.items()
        }
        for paper in config["papers"]:
            if not self.recorded and not any(own == paper for own, _ in self.runs):
                raise UserError(f"config: papers: {paper} has no run at scale {self.scale}; leave it out")
        for spec in () if self.recorded else self.runs.values():
            self.class_folders(spec.dataset)
            network_of(spec, self.images(spec))  # Refuses one that cannot be.
        self.tables = {paper: tables_at(config, paper) for paper in config["papers"]}

    def spec(self, paper: str, run: str) -> RunSpec:
        """Return the specification of a configured run, with its first seed; refuse another one."""
        if (paper, run) not in self.runs:
            known = [f"{paper}/{other}" for own, other in self.runs if own == paper] or self.config["papers"]
            raise UserError(f"no run {paper}/{run} at scale {self.config['scale']}; allowed: {listed(known)}")
        return self.runs[paper, run]

    @cached_property
    def batches(self) -> dict[tuple[str, str], list[list[int]]]:
        """The batches of seeds of each run."""
        sizes = {paper: scale_of(self.config, paper)["seeds_per_job"] for paper in self.config["papers"]}
        return {
            (paper, run): paths.seed_batches(paths.run_folder(self.scale, paper, run), seeds, sizes[paper])
            for (paper, run), seeds in self.seeds.items()
        }

    def _batches(self, paper: str, wanted: Mapping[str, Collection[int]] | None = None) -> Iterator[dict[str, str]]:
        """Yield the batches of a paper, or those that have some of the `wanted` seeds by run, as wildcards of paths."""
        wanted = {run: seeds for (own, run), seeds in self.seeds.items() if own == paper} if wanted is None else wanted
        for run, seeds in wanted.items():
            for batch in self.batches[paper, run]:
                if not set(seeds).isdisjoint(batch):
                    yield {"scale": self.scale, "paper": paper, "run": run, "seeds": paths.batch_name(batch)}

    def batch_files(self, file: str, paper: str, wanted: Mapping[str, Collection[int]] | None = None) -> list[str]:
        """Return this file of every batch of a paper, or of those with some of the `wanted` seeds by run."""
        return [f"{paths.RUN.format(**batch)}/{file}" for batch in self._batches(paper, wanted)]

    def dataset_files(self, dataset: str) -> dict[str, str]:
        """Return the files of a data set in its canonical form."""
        folder = paths.DATASET.format(dataset=dataset)
        return {name: f"{folder}/{file}" for name, file in SPLITS.items()}

    def training_inputs(self, paper: str, run: str, seeds: str) -> dict:
        """Return what a batch is trained on: its data set and, if it has any, stored copies and grafted norms."""
        spec = self.spec(paper, run)
        inputs = self.dataset_files(spec.dataset)
        if spec.store:
            inputs["store"] = paths.STORE.format(dataset=spec.dataset, store=spec.store.name)
        if spec.reference:
            inputs["norms"] = self.batch_files(paths.NORMS, paper, {spec.reference: paths.batch_seeds(seeds)})
        return inputs

    def spec_json(self, paper: str, run: str) -> str:
        """Return a run's specification, but for the seed, as JSON."""
        return json.dumps({key: value for key, value in self.spec(paper, run).to_dict().items() if key != "seed"})

    def measuring_inputs(self, paper: str, run: str, seeds: str) -> dict:
        """Return what a measure of a batch reads."""
        spec, folder = self.spec(paper, run), paths.RUN.format(scale=self.scale, paper=paper, run=run, seeds=seeds)
        weights = paths.BEST if spec.held_out else paths.MODEL
        files = {"metrics": f"{folder}/{paths.METRICS}", "model": f"{folder}/{weights}"}
        return {**self.dataset_files(spec.dataset), **files}

    def measures_of_job(self, measures: str) -> list[str]:
        """Return the measures that a file has, by its name: one of them, or all that are configured."""
        return list(self.config["measures"]) if measures == paths.ALL_MEASURES else [measures]

    def minutes(self, cost: Cost, attempt: int) -> int:
        """Return the minutes that a job asks a scheduler for: with a margin, and twice as many in each new attempt."""
        cluster = self.config["cluster"]
        predicted = cluster["minutes"] + cluster["margin"] * cost.seconds / 60
        return min(cluster["longest"], round(predicted * 2 ** (attempt - 1)))

    def megabytes(self, cost: Cost, attempt: int) -> int:
        """Return the memory that a job asks a scheduler for: with a margin, and more in each new attempt."""
        return round(max(self.config["cluster"]["memory_mb"], MEMORY_MARGIN * cost.memory_mb) * attempt)

    def training_cost(self, paper: str, run: str, seeds: str) -> Cost:
        """Return what training a batch costs."""
        spec = self.spec(paper, run)
        return training_cost(spec, len(paths.batch_seeds(seeds)), self.images(spec), self.device)

    def measuring_cost(self, paper: str, run: str, seeds: str, measures: str) -> Cost:
        """Return what a job costs that takes measures of a batch."""
        spec, names, count = self.spec(paper, run), self.measures_of_job(measures), len(paths.batch_seeds(seeds))
        return measuring_cost(spec, names, self.measuring, count, self.images(spec), self.device)

    def landscape_cost(self, paper: str, run: str, seeds: str, kind: str) -> Cost:
        """Return what a part of the landscapes of a batch costs."""
        spec, count = self.spec(paper, run), 1 if kind in FIRST_SEED else len(paths.batch_seeds(seeds))
        return landscape_cost(spec, kind, self.measuring["landscape"], count, self.images(spec), self.device)

    def images(self, spec: RunSpec) -> Images:
        """Return number and shape of the images of a run's data set."""
        return images_of(self.config, spec.dataset)

    def measuring_options(self, measures: str) -> str:
        """Return the options of the measures of a job, as JSON."""
        return json.dumps({name: self.measuring.get(name, {}) for name in self.measures_of_job(measures)})

    def measuring_jobs(self, paper: str) -> list[str]:
        """Return the names of the jobs that measure a batch of a paper: one for all measures, or one for each."""
        together = scale_of(self.config, paper)["measures_share_a_job"]
        return [paths.ALL_MEASURES] if together and self.config["measures"] else self.config["measures"]

    def measure_files(self, paper: str) -> list[str]:
        """Return the files of all measures of a paper's runs."""
        jobs = self.measuring_jobs(paper)
        return [paths.MEASURES.format(**batch, measures=job) for batch in self._batches(paper) for job in jobs]

    def drawn(self, paper: str, table: str, part: str) -> dict[str, list[int]]:
        """Return the runs, of a table or its `planes`, of which a figure draws this part, and the seeds of each.

        With records these are the seeds whose record has the part.
        """
        content = self.table(paper, table)
        rows = dict.fromkeys(row["run"] for row in content["rows"] if row["planned"])
        seeds = {run: self.seeds[paper, run] for run in (content["planes"] if part == "plane" else rows)}
        if self.recorded:
            known = self.recorded[paper]
            seeds = {run: [seed for seed in own if part in known[run][seed][1]] for run, own in seeds.items()}
        return {run: own[: 1 if part in FIRST_SEED else None] for run, own in seeds.items()}

    def landscape_options(self, paper: str, run: str, kind: str) -> str:
        """Return the options of a part of a landscape."""
        settings = self.measuring["landscape"]
        seed = f" --seed {self.seeds[paper, run][0]}" if kind in FIRST_SEED else ""
        images = f" --images {settings['images']}" if settings["images"] else ""
        view = View(**{key: settings[key] for key in View.model_fields}).model_dump(mode="json", exclude_defaults=True)
        view = f" --options {shlex.quote(json.dumps(view))}" if view else ""
        return f"--points {settings[f'{kind}_points']}{seed}{images}{view}"

    def landscape_points(self, paper: str, table: str, kind: str) -> dict[str, tuple[str, str]]:
        """Return the files of all parts of the landscapes of a figure, with run and batch of each."""
        chunks = self.measuring["landscape"][f"{kind}_chunks"]
        return {
            paths.LANDSCAPE.format(**one, kind=kind, chunk=chunk, chunks=chunks): (one["run"], one["seeds"])
            for one in self._batches(paper, self.drawn(paper, table, kind))
            for chunk in range(chunks)
        }

    def store_options(self, dataset: str, store: str) -> str:
        """Return how stored copies are made, as options of `build-store`; refuse copies that no run trains on."""
        plans = (spec.store for spec in self.runs.values() if spec.dataset == dataset and spec.store)
        if (plan := next((plan for plan in plans if plan.name == store), None)) is None:
            raise UserError(f"no run of the configured papers trains on {dataset}/{store}")
        flags = " --flip" * plan.flip + " --clean-first" * plan.clean_first
        return f"--copies {plan.copies} --crop-padding {plan.crop_padding} --seed {plan.seed}{flags}"

    def class_folders(self, dataset: str) -> list[str]:
        """Return the folders of an image folder's splits and classes: whose file or folder is another one is newer."""
        own = self.config["datasets"].get(dataset)
        splits = [Path(own["path"], split) for split in ("train", "test")] if own else []
        folders = [str(one) for split in splits for one in (split, *class_folders(split).values())]
        if braced := [folder for folder in folders if re.search("[{}]", folder)]:
            raise UserError(f"{braced[0]}: must have no braces in its name: to Snakemake they are wildcards")
        return folders

    def class_files(self, dataset: str) -> str:
        """Return a digest of names, sizes and times of an image folder's files: overwriting one leaves its folder."""
        digest = hashlib.sha256()
        for folder in self.class_folders(dataset):
            for file in sorted(os.scandir(folder), key=lambda file: file.name):
                if file.is_file() and not file.name.startswith("."):
                    status = file.stat()
                    line = f"{folder}/{file.name} {status.st_size} {status.st_mtime_ns}\n"
                    digest.update(line.encode(errors="surrogateescape"))
        return digest.hexdigest()[:16]

    def table(self, paper: str, table: str) -> dict:
        """Return a published table at this scale; refuse one that is not there.

        Its `scaled` says in short what the scale's rules change; `as_published`, that nothing differs from the paper's
        settings, data sets and networks.
        """
        if table not in self.tables.get(paper, {}):
            found = [f"{own}/{name}" for own, tables in self.tables.items() for name in tables]
            raise UserError(f"no table {paper}/{table} at scale {self.config['scale']}; allowed: {', '.join(found)}")
        content = self.tables[paper][table]
        runs = {row["run"]: None for row in content["rows"] if row["planned"]}
        scaled, known = scale_note(self.config, paper, runs), load_paper(paper)["runs"]
        replaced = any(
            getattr(self.runs[paper, run], key) != known[run][key] for run in runs for key in ("dataset", "model")
        )
        changed = scaled or replaced or scale_of(self.config, paper)["augmentation"]
        return {**content, "scaled": scaled, "as_published": not changed}

    def _frames(self, paper: str, metrics: list[str], *names: str) -> dict[str, str]:
        """Return the frames of a paper's runs, those named, and that of its measures if one of the metrics needs it."""
        needed = needed_measures(metrics) & set(self.config["measures"])
        every = ["runs", *names, *(["measures"] if needed else [])]
        return {name: paths.FRAME.format(scale=self.scale, paper=paper, frame=name) for name in every}

    def table_inputs(self, paper: str, table: str) -> dict[str, str]:
        """Return the frames that a table is made of."""
        return self._frames(paper, [row["metric"] for row in self.table(paper, table)["rows"]])

    def claims_inputs(self, paper: str) -> dict[str, str]:
        """Return the frames that the claims of a paper are judged on."""
        return self._frames(paper, [claim.metric for claim in self.claims(paper)], "histories")

    def claims(self, paper: str) -> list[Claim]:
        """Return the claims of a paper that can be judged at this scale."""
        return claims_at(self.config, paper)

    def records(self, paper: str) -> list[str]:
        """Return the records of a paper."""
        return [file for seeds in self.recorded[paper].values() for file, _ in seeds.values()]

    def _drawn_records(self, paper: str, table: str, part: str) -> list[str]:
        """Return the records of which a figure draws this part."""
        runs = self.drawn(paper, table, part).items()
        return [self.recorded[paper][run][seed][0] for run, seeds in runs for seed in seeds]

    @cached_property
    def figure_names(self) -> list[str]:
        """The names of all figures, those from outside of the package among them."""
        tables = [table for paper in self.config["papers"] for table in load_paper(paper)["tables"].values()]
        return sorted({*FIGURES, *(name for table in tables for name in table["figures"])})

    def figures(self, paper: str, table: str) -> list[str]:
        """Return the kinds of a table's figures that have what they need: rows that are run, a measure, a record.

        What compares accuracies needs two runs.
        """
        content, measures = self.table(paper, table), self.config["measures"]
        planned = [row for row in content["rows"] if row["planned"]]
        if not planned:
            return []
        missing = set() if measures else {"measures", *LANDSCAPES}
        missing |= set() if content["planes"] else {"plane"}
        compared = {row["run"] for row in planned} | {row["gap"]["from"] for row in planned if row["gap"]}
        missing |= set() if len({run for run in compared if (paper, run) in self.runs}) > 1 else {ACCURACY}
        missing |= set() if needed_measures([content["metric"]]) <= set(measures) else {GRID}
        *_, inner = content["grid"]["rows"] if content["grid"] else [None]
        missing |= set() if inner and len({row["axes"][inner] for row in planned}) > 1 else {ROWS}
        if self.recorded:
            missing |= {part for part in (*LANDSCAPES, *NOISE) if not self._drawn_records(paper, table, part)}
        return [name for name in content["figures"] if missing.isdisjoint(needs(name))]

    def figure_inputs(self, paper: str, table: str, figure: str) -> dict:
        """Return what a figure of a table reads beside the frame of its paper's runs: a file or files for each need."""
        inputs: dict = {}
        for need in needs(figure):
            if need in FRAMES:
                inputs[need] = paths.FRAME.format(scale=self.scale, paper=paper, frame=need)
            elif self.recorded and need in (*LANDSCAPES, *NOISE):
                inputs[need] = self._drawn_records(paper, table, need)
            elif need in LANDSCAPES:
                inputs[need] = list(self.landscape_points(paper, table, need))
            elif need in NOISE:
                drawn = self.drawn(paper, table, need)
                inputs["metrics"] = self.batch_files(paths.METRICS, paper, drawn)
                inputs[need] = self.batch_files(f"{need}.csv", paper, drawn)
        return inputs

    def colours(self, paper: str, table: str) -> dict[str, str]:
        """Return the colour of each run of a table, the same at every scale."""
        return run_colours(load_paper(paper)["tables"])[table]

    def trajectories(self, paper: str) -> dict:
        """Return the settings of a paper's picture of descent on a loss with two weights; refuse a paper without."""
        if (settings := load_paper(paper)["trajectories"]) is None:
            raise UserError(f"papers/{paper}.yaml has no trajectories")
        return settings
