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


def step_blocks(spec: RunSpec, blocks: list[np.ndarray], step: int) -> list[np.ndarray]:
    """The blocks of step number `step` of an epoch: its macro-batch."""
    if spec.full_batch:
        return blocks
    size = spec.blocks_per_step
    return blocks[step * size : (step + 1) * size]


def stacks(blocks: list[np.ndarray], most: int) -> list[np.ndarray]:
    """Neighbouring blocks of equal size, stacked to arrays (k, n) with k at most `most`."""
    stacked: list[list[np.ndarray]] = []
    for block in blocks:
        if stacked and len(stacked[-1]) < most and len(stacked[-1][0]) == len(block):
            stacked[-1].append(block)
        else:
            stacked.append([block])
    return [np.stack(group) for group in stacked]
