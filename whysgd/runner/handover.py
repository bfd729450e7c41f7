"""Finished jobs are handed over to Snakemake, which keeps a record of what each of its own was made of.

Files without such a record it takes as they are, whatever is edited afterwards.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec

from whysgd.errors import UserError
from whysgd.runner.plan import DONE, Job
from whysgd.validation import ROOT


def hand_over(jobs: Sequence[Job], overlays: Sequence[str], settings: Sequence[str]) -> int:
    """Have Snakemake record the jobs that are done as its own; returns how many.

    Args:
        jobs: of the workflow's rules, so of all seeds and measures that are configured.
        overlays, settings: files and KEY=VALUE of the configuration.

    Raises:
        UserError: there is no Snakemake, or it refuses; its last words are in the line.
    """
    if find_spec("snakemake") is None:
        raise UserError("run: --hand-over: Snakemake is not installed here")
    done = [job for job in jobs if job.state == DONE]
    if not done:
        return 0
    # Touched, which is what records them, files would look newer than what was made of them.
    times = {file: file.stat() for job in jobs for file in job.makes if file.exists()}
    command = [
        sys.executable, "-m", "snakemake", "--touch", "--cores", "1", "--snakefile", str(ROOT / "Snakefile"),
        "--quiet", "all", "--force", *(str(job.makes[0]) for job in done),
    ]  # fmt: skip
    command += ["--configfile", *overlays] if overlays else []
    command += ["--config", *settings] if settings else []
    try:
        made = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    finally:
        for file, at in times.items():
            os.utime(file, ns=(at.st_atime_ns, at.st_mtime_ns))
    if made.returncode:
        words = [line.strip() for line in (made.stdout + made.stderr).splitlines() if line.strip()]
        raise UserError(f"run: --hand-over: snakemake --touch failed ({words[-1] if words else made.returncode})")
    return len(done)
