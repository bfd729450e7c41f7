"""What a configuration asks the workflow for: its jobs, tables, claims and figures, and the files that each reads.

The input functions of rules/common.smk look things up here. Nothing imports torch, pandas or matplotlib: every job of
the workflow parses the rules.
"""

import os
import shlex
import sys
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from whysgd.errors import UserError
from whysgd.measures.catalog import LANDSCAPES
from whysgd.report.colours import run_colours
from whysgd.results import paths
from whysgd.study.claims import Claim, needed_measures
from whysgd.study.figures import FIGURES, FRAMES, GRID, NOISE, needs
from whysgd.study.jobs import Jobs
from whysgd.study.papers import claims_at, load_paper
from whysgd.study.spec import RunSpec


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


class Study(Jobs):
    """A configuration, laid out for the rules."""

    def frames(self, paper: str, metrics: list[str], *names: str) -> dict[str, str]:
        """Return the frames of a paper's runs, those named, and that of its measures if one of the metrics needs it."""
        needed = needed_measures(metrics) & set(self.config["measures"])
        every = ["runs", *names, *(["measures"] if needed else [])]
        return {name: paths.FRAME.format(scale=self.scale, paper=paper, frame=name) for name in every}

    def table_inputs(self, paper: str, table: str) -> dict[str, str]:
        """Return the frames that a table is made of."""
        return self.frames(paper, [row["metric"] for row in self.table(paper, table)["rows"]])

    def claims_inputs(self, paper: str) -> dict[str, str]:
        """Return the frames that the claims of a paper are judged on."""
        return self.frames(paper, [claim.metric for claim in self.claims(paper)], "histories")

    def claims(self, paper: str) -> list[Claim]:
        """Return the claims of a paper that can be judged at this scale."""
        return claims_at(self.config, paper)

    def records(self, paper: str | None = None) -> list[str]:
        """Return the records of a paper, or of all."""
        runs = (runs for own, runs in self.recorded.items() if paper in (None, own))
        return [file for own in runs for seeds in own.values() for file, _ in seeds.values()]

    def _has(self, spec: RunSpec, part: str) -> bool:
        """Whether the record of a run's first seed has a log of the gradient noise, or points of a landscape."""
        return part in self.recorded[spec.paper][spec.run][spec.seed][1]

    @cached_property
    def figure_names(self) -> list[str]:
        """The names of all figures, those from outside of the package among them."""
        tables = [table for paper in self.config["papers"] for table in load_paper(paper)["tables"].values()]
        return sorted({*FIGURES, *(name for table in tables for name in table["figures"])})

    def figures(self, paper: str, table: str) -> list[str]:
        """Return the kinds of a table's figures; without a row that is run, or a measure that it needs, it has none."""
        content, measures = self.table(paper, table), self.config["measures"]
        if not any(row["planned"] for row in content["rows"]):
            return []
        missing = set() if measures else {"measures", *LANDSCAPES}
        missing |= set() if content["planes"] else {"plane"}
        missing |= set() if needed_measures([content["metric"]]) <= set(measures) else {GRID}
        if self.recorded:
            parts = {part: self.drawn(paper, table, part) for part in (*LANDSCAPES, *NOISE)}
            missing |= {part for part, specs in parts.items() if not any(self._has(spec, part) for spec in specs)}
        return [name for name in content["figures"] if missing.isdisjoint(needs(name))]

    def figure_inputs(self, paper: str, table: str, figure: str) -> dict:
        """Return what a figure of a table reads beside the frame of its paper's runs: a file or files for each need."""
        content, names, inputs = self.table(paper, table), {"scale": self.scale, "paper": paper}, {}
        for need in needs(figure):
            if need in FRAMES:
                inputs[need] = paths.FRAME.format(**names, frame=need)
            elif need in NOISE:
                inputs |= self._noise_inputs(paper, content, need)
            elif need in LANDSCAPES and self.recorded:
                specs = self.drawn(paper, table, need)
                inputs[need] = [self._record(spec) for spec in specs if self._has(spec, need)]
            elif need in LANDSCAPES:
                inputs[need] = self.landscape_points(paper, table, need)
        return inputs

    def _record(self, spec: RunSpec) -> str:
        return self.recorded[spec.paper][spec.run][spec.seed][0]

    def _noise_inputs(self, paper: str, content: Mapping, log: str) -> dict:
        """The logs of the gradient noise of a table's runs: of every seed, or of the batch of the first one."""
        every = log != "noise_norms"  # They are drawn of one seed.
        runs = dict.fromkeys(row["run"] for row in content["rows"] if row["planned"])
        if self.recorded:
            seeds = [
                (run, seed)
                for run in runs
                for seed in (self.seeds[paper, run] if every else self.seeds[paper, run][:1])
            ]
            specs = [self.runs[paper, run].replace(seed=seed) for run, seed in seeds]
            return {log: [self._record(spec) for spec in specs if self._has(spec, log)]}
        batches = [(run, batch) for run in runs for batch in self.batches[paper, run][: None if every else 1]]
        return {
            "metrics": [self._run_file(paper, run, batch, paths.METRICS) for run, batch in batches],
            log: [self._run_file(paper, run, batch, f"{log}.csv") for run, batch in batches],
        }

    def colours(self, paper: str, table: str) -> dict[str, str]:
        """Return the colour of each run of a table, the same at every scale."""
        return run_colours(load_paper(paper)["tables"])[table]

    def trajectories(self, paper: str) -> dict:
        """Return the settings of a paper's picture of descent on a loss with two weights.

        Raises:
            UserError: it has none.
        """
        if load_paper(paper)["trajectories"] is None:
            raise UserError(f"papers/{paper}.yaml has no trajectories")
        return load_paper(paper)["trajectories"]
