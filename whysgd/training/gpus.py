"""One GPU for each job: training jobs of one machine never share a card, even where no scheduler keeps them apart.

A job holds a file lock named after its card. The kernel drops it when the process ends, however it ends, so a killed
job leaves nothing behind. Jobs of other users and other programs take no part. Nothing here imports torch.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from itertools import takewhile
from math import inf
from pathlib import Path

from filelock import FileLock, Timeout

from whysgd.errors import UserError

VISIBLE = "CUDA_VISIBLE_DEVICES"
# A process that has claimed cards tells each job that it starts here which of them is the job's.
CLAIMED = "WHYSGD_CLAIMED_GPU"


def claim_gpu() -> FileLock | None:
    """Take one visible GPU for this process and make it the only visible one; wait while all are taken.

    To be called before torch looks for GPUs. Under torchrun nothing is claimed: ranks go by their number.

    Returns:
        the lock, held until it is released or forgotten; None where the choice is left to torch, or where who started
        this process holds its GPU.

    Raises:
        UserError: the folder of the locks cannot be used.
    """
    visible = os.environ.get(VISIBLE)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 or (visible is not None and visible == os.environ.get(CLAIMED)):
        return None
    claimed = claim_gpus(1)
    if not claimed:
        return None
    os.environ[VISIBLE], lock = next(iter(claimed.items()))
    return lock


def claim_gpus(most: int | None = None, until: float = inf) -> dict[str, FileLock]:
    """Take the visible GPUs that are free, for this process and the jobs it starts; wait while all are taken.

    Args:
        most: take no more than so many; None takes all.
        until: wait no longer than to this moment of `time.monotonic`.

    Returns:
        their locks, by what CUDA_VISIBLE_DEVICES calls them; empty without GPUs.

    Raises:
        UserError: the folder of the locks cannot be used, or no GPU was free in time.
    """
    gpus = visible_gpus()
    if not gpus:
        return {}
    # Not in a run's folder: every copy of the project on this machine must find the same locks.
    folder = Path(tempfile.gettempdir(), f"whysgd-gpus-{os.getuid()}")
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        return _wait_for_some(gpus, folder, most or len(gpus), until)
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be used for the locks of GPUs ({error.strerror or error}); set TMPDIR"
        ) from None


def _wait_for_some(gpus: dict[str, str], folder: Path, most: int, until: float) -> dict[str, FileLock]:
    locks = {entry: FileLock(folder / f"{re.sub(r'[^A-Za-z0-9-]', '_', card)}.lock") for entry, card in gpus.items()}
    waits = False
    while True:
        taken: dict[str, FileLock] = {}
        for entry, lock in locks.items():
            with suppress(Timeout):
                if len(taken) < most:
                    lock.acquire(timeout=0)
                    taken[entry] = lock
        if taken:
            return taken
        all_taken = f"every GPU is taken by another training job ({', '.join(gpus)})"
        if time.monotonic() > until:
            raise UserError(f"{all_taken}, and none was free in time")
        if not waits:
            waits = True
            print(f"{all_taken}; waiting for the first that is free", file=sys.stderr, flush=True)
        time.sleep(1)


def visible_gpus() -> dict[str, str]:
    """The GPUs that this process may use, found without starting CUDA.

    Returns:
        what CUDA_VISIBLE_DEVICES calls each, and its card: the UUID where nvidia-smi tells it, else that name again.
    """
    visible = os.environ.get(VISIBLE)
    if visible is None:
        # By UUID: CUDA's numbers are not those of nvidia-smi unless CUDA_DEVICE_ORDER says so.
        return {uuid: uuid for uuid in _cards().values()}
    # Like CUDA, ignore everything from the first entry that names no GPU, such as -1.
    is_gpu = re.compile(r"\d+|(GPU|MIG)-.+").fullmatch
    entries = list(takewhile(is_gpu, (entry.strip() for entry in visible.split(","))))
    cards = _cards() if entries else {}
    found = {entry: _card(entry, cards) for entry in entries}
    return dict(takewhile(lambda item: item[1] is not None, found.items()))


def _card(entry: str, cards: dict[str, str]) -> str | None:
    """The card behind an entry of CUDA_VISIBLE_DEVICES; None if nvidia-smi knows all cards and this is none of them."""
    if entry.startswith("MIG-") or not cards:
        return entry
    if entry.isdigit():
        return cards.get(str(int(entry)))
    # CUDA takes the beginning of a UUID, too, if it is that of one card only.
    matches = [uuid for uuid in cards.values() if uuid.startswith(entry)]
    return matches[0] if len(matches) == 1 else None


def _cards() -> dict[str, str]:
    """UUIDs of this machine's NVIDIA cards by number; empty without nvidia-smi or if it fails.

    Most memory first: like CUDA, which starts with the fastest, a job alone does not take the display's small card.
    """
    program = shutil.which("nvidia-smi")
    if program is None:
        return {}
    command = [program, "--query-gpu=index,uuid,memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return {}
    cards = re.findall(r"^(\d+), (GPU-\S+), (\d*)", done.stdout, re.MULTILINE)
    return {index: uuid for index, uuid, _ in sorted(cards, key=lambda card: -int(card[2] or 0))}
