"""Waiting for another process that trains in the same folder: on a cluster, the job of a Snakemake that was killed.

It goes on after that Snakemake is gone, and the next one, which does not know of it, starts the same run again. Nothing
here imports torch: who waits takes no GPU meanwhile.
"""

import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout


def wait_for_others(folders: Sequence[Path], seconds: float) -> None:
    """Return once nobody trains in these folders, or after so many seconds; `whysgd.training.loop` refuses them then.

    Args:
        folders: of runs; those that are not there are free.
        seconds: for each of them, at most.
    """
    for folder in folders:
        lock = FileLock(folder / ".lock")
        # What cannot be locked at all is for the training to tell.
        with suppress(Timeout, OSError):
            if not folder.is_dir():
                continue
            try:
                lock.acquire(timeout=0)
            except Timeout:
                print(
                    f"{folder}: another process is training in this folder; waiting for it", file=sys.stderr, flush=True
                )
                lock.acquire(timeout=seconds, poll_interval=1.0)
            lock.release()
