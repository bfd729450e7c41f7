"""The gradient noise of all mini-batches at one point, in two passes over their gradients."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import nan

import torch

from whysgd.measures.alpha import AlphaEstimate, StreamedAlpha, chunk_entries, undefined

# Blocks of the bootstrap, of whole mini-batches as nearly as can be: entries of one mini-batch depend on each other.
BLOCKS = 100


@dataclass(frozen=True)
class Noise:
    """The noise U_b = g_b − mean_b g_b of P mini-batches, g_b (M,) their gradients.

    Attributes:
        alpha: tail index of all P·M entries of U, mini-batch after mini-batch.
        active: of those of the active parameters alone: whose gradient is not exactly zero on every mini-batch. Its m
            is that of `alpha`, and what does not fill a last sum is left out: the largest divisor would change with
            each parameter that falls silent, and where noise is not α-stable the estimate changes with m.
        inactive: share of the others, 0 … 1. Their noise is exactly zero.
        noise_norms: ‖U_b‖ (P,), float64.
        gradient: mean_b g_b (M,).
    """

    alpha: AlphaEstimate
    active: AlphaEstimate
    inactive: float
    noise_norms: torch.Tensor
    gradient: torch.Tensor


def noise_of(gradients: Callable[[], Iterable[torch.Tensor]], mini_batches: int, parameters: int) -> Noise:
    """The noise of mini-batch gradients that are computed twice rather than stored.

    The first pass is for their mean, the second for the rest. Beside the gradients at hand this needs one number for
    each parameter, the mean, and one byte.

    Args:
        gradients: called twice; each time the same stacks (k, M) of gradients, mini-batch after mini-batch, P in all.
            They are read only, and none is kept.
        mini_batches: P.
        parameters: M.

    Returns:
        the noise; all of it nan, but the gradient, if a gradient is not finite. Tail indices are nan, too, where none
        has noise.

    Raises:
        ValueError: P is below 2.

    Source: Şimşekli et al. 2019 (arXiv 1901.06053), section 5, whose code stores all P gradients.
    """
    if mini_batches < 2:
        raise ValueError(f"mini_batches = {mini_batches}: noise needs at least 2")
    mean, active = None, None
    for stack in map(torch.Tensor.detach, gradients()):
        if mean is None:
            mean, active = stack.new_zeros(parameters), stack.new_zeros(parameters, dtype=torch.bool)
        for rows, columns in _pieces(stack):
            piece = stack[rows, columns]
            mean[columns] += piece[0] if len(piece) == 1 else piece.sum(0)
            active[columns] |= piece.bool().any(0)
        # Room for the next.
        del stack, piece
    mean /= mini_batches
    entries, count = mini_batches * parameters, int(active.count_nonzero())
    norms = mean.new_zeros(mini_batches, dtype=torch.float64)
    if not torch.stack(mean.aminmax()).isfinite().all():
        return Noise(undefined(entries), undefined(entries), nan, norms.fill_(nan), mean)
    inactive = (parameters - count) / parameters
    if not count:
        return Noise(undefined(entries), undefined(0), inactive, norms, mean)
    blocks = -(-mini_batches // -(-mini_batches // BLOCKS))
    every = StreamedAlpha(entries, blocks=blocks)
    some = (
        StreamedAlpha(mini_batches * count, min(every.m, mini_batches * count), blocks) if count < parameters else None
    )
    buffer, done = None, 0
    for stack in map(torch.Tensor.detach, gradients()):
        buffer = mean.new_empty(chunk_entries(mean.device)) if buffer is None else buffer
        for rows, columns in _pieces(stack):
            piece = stack[rows, columns]
            noise = torch.sub(piece, mean[columns], out=buffer[: piece.numel()].view(piece.shape))
            norms[done : done + len(stack)][rows] += torch.linalg.vector_norm(noise, dim=1).double().square()
            every.add(noise.flatten())
            if some is not None:
                some.add(noise.masked_select(active[columns]))
        done += len(stack)
        del stack, piece
    alpha = every.estimate()
    return Noise(alpha, some.estimate() if some else alpha, inactive, norms.sqrt_(), mean)


def _pieces(stack: torch.Tensor) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of pieces of a stack (k, M), in the order of its entries: whole rows, or parts of one."""
    (k, width), size = stack.shape, chunk_entries(stack.device)
    rows, columns = max(1, size // width), min(size, width)
    for row in range(0, k, rows):
        for column in range(0, width, columns):
            yield slice(row, row + rows), slice(column, column + columns)
