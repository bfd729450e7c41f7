"""Seeing that the losses are finite without waiting for a GPU."""

from collections import deque

import torch

# Steps that may be under way on a GPU before the processor looks at the oldest one's losses.
LAG = 8


class DivergenceCheck:
    """Says which seeds had a loss that was not finite; on a GPU the answer is some steps old, unless one waits for it.

    Args:
        seeds: how many there are.
        device: where the losses are.
        lag: steps left unread; None: none on a CPU, where reading costs nothing.
    """

    def __init__(self, seeds: int, device: torch.device, lag: int | None = None):
        self.gpu = device.type == "cuda"
        self.lag = (LAG if self.gpu else 0) if lag is None else lag
        self.unread: deque[tuple[torch.Tensor, torch.cuda.Event | None]] = deque()
        self.diverged = [False] * seeds

    def add(self, losses: torch.Tensor) -> None:
        """Take note of the losses (seeds,) of a step; they are copied while later steps run."""
        if self.gpu:
            copy = torch.empty_like(losses, device="cpu", pin_memory=True).copy_(losses, non_blocking=True)
            self.unread.append((copy, torch.cuda.current_stream(losses.device).record_event()))
        else:
            self.unread.append((losses, None))

    def read(self, wait: bool = False) -> list[bool]:
        """Return which seeds have diverged so far, not counting the last few steps unless `wait`.

        Among ranks the answer is the same as long as all ask in the same way after the same steps.
        """
        while len(self.unread) > (0 if wait else self.lag):
            losses = _values(*self.unread.popleft())
            self.diverged = [before or not finite for before, finite in zip(self.diverged, losses, strict=True)]
        return self.diverged

    def unread_finite(self) -> bool:
        """Return whether the losses that `read` has not looked at are finite; wait for them, and leave them unread."""
        return all(all(_values(*entry)) for entry in self.unread)


def _values(losses: torch.Tensor, done: torch.cuda.Event | None) -> list[bool]:
    if done is not None:
        done.synchronize()
    return torch.isfinite(losses).tolist()
