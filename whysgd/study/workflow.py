"""What a configuration asks the workflow for: its jobs, tables, claims and figures, and the files that each reads.

The input functions of rules/common.smk look things up here. Nothing imports torch, pandas or matplotlib: every job of
the workflow parses the rules.
"""

import os
import shlex
import sys
from functools import cached_property
from pathlib import Path

from whysgd.errors import UserError
from whysgd.measures.catalog import LANDSCAPES
from whysgd.report.colours import run_colours
from whysgd.results import paths
from whysgd.study.claims import Claim, needed_measures
from whysgd.study.figures import ACCURACY, FIGURES, FRAMES, GRID, NOISE, needs
from whysgd.study.jobs import Jobs
from whysgd.study.papers import claims_at, load_paper


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

    def _drawn_records(self, paper: str, table: str, part: str) -> list[str]:
        """Return the records of which a figure draws this part, those that have it."""
        runs = self.drawn(paper, table, part).items()
        every = (self.recorded[paper][run][seed] for run, seeds in runs for seed in seeds)
        return [file for file, parts in every if part in parts]

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
                runs = self.drawn(paper, table, need).items()
                batches = [(paper, run, batch) for run, seeds in runs for batch in self.batches_of(paper, run, seeds)]
                inputs["metrics"] = [self._run_file(*batch, paths.METRICS) for batch in batches]
                inputs[need] = [self._run_file(*batch, f"{need}.csv") for batch in batches]
        return inputs

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
