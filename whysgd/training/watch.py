"""Seeing that the loss is finite without waiting for a GPU."""

from collections import deque

import torch

# Steps that may be under way on a GPU before the processor looks at the oldest one's loss.
LAG = 8


class LossWatch:
    """Whether all losses were finite; on a GPU the answer is some steps old, unless one waits for it.

    Args:
        device: where the losses are.
        lag: losses left unread; None: none on a CPU, where reading costs nothing.
    """

    def __init__(self, device: torch.device, lag: int | None = None):
        self.gpu = device.type == "cuda"
        self.lag = (LAG if self.gpu else 0) if lag is None else lag
        self.unread: deque[tuple[torch.Tensor, torch.cuda.Event | None]] = deque()
        self.seen_all_finite = True

    def add(self, loss: torch.Tensor) -> None:
        """Take note of a scalar; it is copied while later steps run."""
        if self.gpu:
            copy = torch.empty_like(loss, device="cpu", pin_memory=True).copy_(loss, non_blocking=True)
            self.unread.append((copy, torch.cuda.current_stream(loss.device).record_event()))
        else:
            self.unread.append((loss, None))

    def finite(self, wait: bool = False) -> bool:
        """Whether all losses noted so far were finite, but for the last few unless `wait`.

        Among ranks the answer is the same as long as all ask in the same way after the same steps.
        """
        while len(self.unread) > (0 if wait else self.lag):
            self.seen_all_finite &= _is_finite(*self.unread.popleft())
        return self.seen_all_finite

    def unread_finite(self) -> bool:
        """Whether the losses that `finite` has not looked at are; waits for them, and leaves them unread."""
        return all(_is_finite(*entry) for entry in self.unread)


def _is_finite(loss: torch.Tensor, done: torch.cuda.Event | None) -> bool:
    if done is not None:
        done.synchronize()
    return bool(torch.isfinite(loss))
