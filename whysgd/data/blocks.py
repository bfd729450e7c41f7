"""Which images make up each block of each step of an epoch."""

import numpy as np

from whysgd.spec import RunSpec
from whysgd.streams import stream


def epoch_order(spec: RunSpec, images: int, epoch: int) -> np.ndarray:
    """The order in which an epoch visits the images: the data set's, or a permutation of its own."""
    if not spec.shuffle:
        return np.arange(images)
    return stream(spec.seed, "order", epoch).permutation(images)


def epoch_blocks(spec: RunSpec, images: int, epoch: int) -> list[np.ndarray]:
    """The blocks of one epoch, each an array of image numbers.

    All have `spec.block` images, except a last one that is not full, which is left out if
    `spec.drop_last`.
    """
    order = epoch_order(spec, images, epoch)
    end = images - images % spec.block if spec.drop_last else images
    return [order[start : min(start + spec.block, end)] for start in range(0, end, spec.block)]


def step_range(spec: RunSpec, blocks: int, step: int) -> tuple[int, int]:
    """First block and the one after the last of the macro-batch of a step, in an epoch of so many blocks."""
    if spec.full_batch:
        return 0, blocks
    size = spec.blocks_per_step
    return step * size, min((step + 1) * size, blocks)
