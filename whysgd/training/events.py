"""A run's history as TensorBoard's event files, for those who like to watch: `tensorboard --logdir results`."""

import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from whysgd.errors import UserError

FOLDER = "tensorboard"
SPLITS = ("train", "validation", "test")


class Events:
    """Writes lines of a run's history as scalars; it draws nothing and changes nothing of the run.

    A run that continues from a checkpoint has the history so far in it. It is written anew, in place of what earlier
    sessions have left, which may be lines short or, after the checkpoint, too long: each step is there once.

    Args:
        out: the run's folder; the files lie in tensorboard/ there.
        history: the lines so far.

    Raises:
        UserError: the package tensorboard is not installed.
    """

    def __init__(self, out: Path, history: Sequence[Mapping]):
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise UserError(
                "tensorboard = true: the package tensorboard is not installed; `pip install tensorboard`, or say false"
            ) from None
        shutil.rmtree(out / FOLDER, ignore_errors=True)
        # A TensorBoard that has read the old files forgets what it knows from this step on.
        self.writer = SummaryWriter(str(out / FOLDER), purge_step=1, flush_secs=10)
        for line in history:
            self.add(line)

    def add(self, line: Mapping) -> None:
        """Write one line: each finite number that it has, at its step."""
        for column, value in line.items():
            if value is not None and math.isfinite(value) and column != "step":
                self.writer.add_scalar(tag_of(column), value, line["step"])

    def close(self) -> None:
        """Write what is left."""
        self.writer.close()


def tag_of(column: str) -> str:
    """What TensorBoard shows a column of the history as: the same quantity of all splits is one group."""
    split, _, quantity = column.partition("_")
    return f"{quantity}/{split}" if split in SPLITS else f"step/{column}"
