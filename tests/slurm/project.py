"""A copy of the project as a user of the test cluster has it, its Snakemake, and the training of its jobs."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from conftest import copy_with
from slurm.cluster import run, wait_for

# Seconds for anything to happen on a machine that others use, too.
PATIENCE = 600
# Asked for sooner and more often than on a cluster that others use.
SOON = ["--slurm-init-seconds-before-status-checks", "5"]


class Project:
    """A copy of the project with a configuration laid over its own.

    Args:
        folder: to be made.
        config: what tiny.yaml says.
        environment: of the cluster.
        data: a folder results/data to start with.
        edits: changes of profiles/slurm/config.yaml, old and new.
    """

    def __init__(
        self,
        folder: Path,
        config: dict,
        environment: dict,
        data: Path | None = None,
        edits=(),
    ):
        self.folder, self.environment = copy_with(folder, config), environment
        if data is not None:
            shutil.copytree(data, folder / "results/data")
        profile = folder / "profiles/slurm/config.yaml"
        text = profile.read_text()
        for old, new in edits:
            assert old in text, f"{old} is not in the profile"
            text = text.replace(old, new)
        profile.write_text(text)
        self.output = folder / "snakemake.out"

    def command(self, *arguments) -> list[str]:
        return [sys.executable, "-m", "snakemake", *map(str, arguments), "--configfile", "tiny.yaml"]

    def start(self, *arguments) -> subprocess.Popen:
        """Start Snakemake on the cluster; what it prints is added to `output`."""
        # What a test before this one left in the environment is not a user's.
        environment = {key: value for key, value in self.environment.items() if not key.startswith("WHYSGD")}
        with open(self.output, "ab") as out:
            return subprocess.Popen(
                self.command(*arguments, *SOON), cwd=self.folder, env=environment, stdin=subprocess.DEVNULL, stdout=out,
                stderr=out,
            )  # fmt: skip

    def finish(self, process: subprocess.Popen) -> str:
        """Wait for Snakemake to end well; returns what it printed."""
        try:
            code = process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.terminate()
            code = "no end"
        assert code == 0, f"{code}:\n{self.told()}"
        return self.output.read_text()

    def told(self) -> str:
        """What Snakemake, its jobs and Slurm say, for the message of a test that fails."""
        texts = [self.output.read_text()[-6000:]]
        logs = (self.folder / ".snakemake/slurm_logs").rglob("*.log")
        texts.extend(f"{log.name}:\n{log.read_text()[-2000:]}" for log in logs)
        return "\n".join([*texts, run(["squeue", "--states=all"], self.environment)])

    def training(self) -> list[int]:
        """Processes of this project that train."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
                if b"whysgd" in words and b"train" in words and os.readlink(entry / "cwd") == str(self.folder):
                    # Only those that are Python itself: `bash -c` and srun have the command as one word.
                    found.append(int(entry.name))
            except OSError:
                continue
        return found

    def wait_until_saved(self, metrics: str) -> int:
        """Wait until a process trains this run and has saved a checkpoint since; returns its id."""
        checkpoint = (self.folder / metrics).parent / "checkpoint.safetensors"
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0

        def saved():
            return checkpoint.exists() and checkpoint.stat().st_mtime_ns != before and len(self.training()) == 1

        assert wait_for(saved, PATIENCE), self.told()
        return self.training()[0]

    def jobs(self, states: str = "all") -> list[dict[str, str]]:
        """This project's jobs as Slurm knows them, in the order in which they were submitted."""
        columns = {"number": "%i", "state": "%T", "limit": "%l", "partition": "%P", "comment": "%k"}
        own = ["squeue", "--noheader", f"--states={states}", "--sort=i", "--format=%Z|" + "|".join(columns.values())]
        lines = [line.split("|") for line in run(own, self.environment).splitlines()]
        return [dict(zip(columns, rest, strict=True)) for place, *rest in lines if place == str(self.folder)]

    def job(self) -> str:
        """The number of the job that runs now."""
        (job,) = self.jobs("R")
        return job["number"]

    def details(self, job: str) -> dict[str, str]:
        """What Slurm says of a job."""
        return dict(re.findall(r"(\w+)=(\S+)", run(["scontrol", "show", "job", job], self.environment)))


def pending(process: int, number: signal.Signals) -> bool:
    """Whether a signal waits for a process that is stopped."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False
    masks = re.findall(r"(?:SigPnd|ShdPnd):\s*([0-9a-f]+)", status)
    return any(int(mask, 16) >> (number - 1) & 1 for mask in masks)
