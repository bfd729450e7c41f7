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
from pathlib import Path

from filelock import FileLock, Timeout

from whysgd.errors import UserError

VISIBLE = "CUDA_VISIBLE_DEVICES"


def claim_gpu() -> FileLock | None:
    """Take one visible GPU for this process and make it the only visible one; wait while all are taken.

    To be called before torch looks for GPUs. Under torchrun nothing is claimed: ranks go by their number.

    Returns:
        the lock, held until it is released or forgotten; None where the choice is left to torch.

    Raises:
        UserError: the folder of the locks cannot be used.
    """
    gpus = {} if int(os.environ.get("WORLD_SIZE", "1")) > 1 else visible_gpus()
    if not gpus:
        return None
    # Not in a run's folder: every copy of the project on this machine must find the same locks.
    folder = Path(tempfile.gettempdir(), f"whysgd-gpus-{os.getuid()}")
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        os.environ[VISIBLE], lock = _wait_for_one(gpus, folder)
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be used for the locks of GPUs ({error.strerror or error}); set TMPDIR"
        ) from None
    return lock


def _wait_for_one(gpus: dict[str, str], folder: Path) -> tuple[str, FileLock]:
    locks = {entry: FileLock(folder / f"{re.sub(r'[^A-Za-z0-9-]', '_', card)}.lock") for entry, card in gpus.items()}
    waits = False
    while True:
        for entry, lock in locks.items():
            with suppress(Timeout):
                lock.acquire(timeout=0)
                return entry, lock
        if not waits:
            waits = True
            taken = f"every GPU is taken by another training job ({', '.join(gpus)})"
            print(f"{taken}; waiting for the first that is free", file=sys.stderr, flush=True)
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
