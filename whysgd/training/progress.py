"""Progress of one run: a bar on a terminal, sparse plain lines elsewhere."""

import sys
import time

from tqdm import tqdm


class Progress:
    """Shows steps done and the last evaluation on stderr.

    Args:
        name: of the run.
        total: steps of the run.
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

    def evaluation(self, row: dict) -> None:
        """Show one line of the history."""
        splits = [split for split in ("train", "validation", "test") if row[f"{split}_accuracy"] is not None]
        summary = " ".join(f"{split} {row[f'{split}_accuracy']:.2f} %" for split in splits)
        if self.bar is not None:
            self.bar.set_postfix_str(summary)
            return
        elapsed = time.perf_counter() - self.start
        left = elapsed / max(1, row["step"] - self.first) * (self.total - row["step"])
        line = f"{self.name}: step {row['step']}/{self.total} lr {row['lr']:.4g} loss {row['step_loss']:.4f}"
        print(f"{line} {summary}, {elapsed:.0f} s, {left:.0f} s left", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Finish the bar."""
        if self.bar is not None:
            self.bar.close()
