"""Progress of a batch of seeds: a bar on a terminal, sparse plain lines elsewhere."""

import sys
import time
from collections.abc import Sequence
from statistics import fmean

from tqdm import tqdm


class Progress:
    """Shows steps done and the last evaluation on stderr; losses and accuracies are means over seeds.

    Args:
        name: of the seeds.
        total: steps of each.
        done: steps made in earlier sessions.
    """

    def __init__(self, name: str, total: int, done: int = 0):
        self.name, self.total, self.first = name, total, done
        self.start = time.perf_counter()
        terminal = sys.stderr.isatty()
        self.bar = tqdm(desc=name, total=total, initial=done, unit="step") if terminal else None
        if not terminal:
            resumed = f", continued after step {done}" if done else ""
            print(f"{name}: {total} steps{resumed}", file=sys.stderr, flush=True)

    def step(self) -> None:
        """Count one step."""
        if self.bar is not None:
            self.bar.update()

    def evaluation(self, rows: Sequence[dict]) -> None:
        """Show one line of the history of each seed that has one."""
        row, splits = rows[0], ("train", "validation", "test")
        means = {key: fmean(row[key] for row in rows) for key, value in row.items() if isinstance(value, float)}
        shown = [split for split in splits if f"{split}_accuracy" in means]
        summary = " ".join(f"{split} {means[f'{split}_accuracy']:.2f} %" for split in shown)
        if self.bar is not None:
            self.bar.set_postfix_str(summary)
            return
        elapsed = time.perf_counter() - self.start
        left = elapsed / max(1, row["step"] - self.first) * (self.total - row["step"])
        line = f"{self.name}: step {row['step']}/{self.total} lr {row['lr']:.4g} loss {means['step_loss']:.4f}"
        print(f"{line} {summary}, {elapsed:.0f} s, {left:.0f} s left", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Finish the bar."""
        if self.bar is not None:
            self.bar.close()
