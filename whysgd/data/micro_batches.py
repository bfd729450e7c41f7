"""The images of each micro-batch of each step of an epoch."""

import numpy as np

from whysgd.streams import stream
from whysgd.study.length import epoch_images
from whysgd.study.spec import RunSpec


def epoch_order(spec: RunSpec, images: int, epoch: int) -> np.ndarray:
    """Return the order in which an epoch visits its images: the data set's, or one of its own.

    Image i of stored copy c has the number c · images + i. A stochastic epoch e visits copy e mod N, full batch all,
    one after another. Without `shuffle` the images of a copy have, in every epoch, the order of the stream (store's
    seed, "store-order", c), or, without the store's `shuffle_copies`, the data set's.

    Args:
        spec: the run.
        images: of the training set, or of one copy.
        epoch: from 0.
    """
    first = epoch % spec.store.copies if spec.store and not spec.full_batch else 0
    count = epoch_images(spec, images)
    if spec.shuffle:
        random = stream(spec.seed, "order", epoch)
        return first * images + (random.integers(count, size=count) if spec.replacement else random.permutation(count))
    if not spec.store or not spec.store.shuffle_copies:
        return first * images + np.arange(count)
    copies = range(first, first + count // images)
    return np.concatenate([c * images + stream(spec.store.seed, "store-order", c).permutation(images) for c in copies])


def epoch_micro_batches(spec: RunSpec, images: int, epoch: int) -> list[np.ndarray]:
    """Return the micro-batches of one epoch, each an array of image numbers.

    All have `spec.micro_batch` images, except a last one that is not full, which is left out if
    `spec.drop_last`.
    """
    order = epoch_order(spec, images, epoch)
    end = len(order) - len(order) % spec.micro_batch if spec.drop_last else len(order)
    return [order[start : min(start + spec.micro_batch, end)] for start in range(0, end, spec.micro_batch)]


def step_range(spec: RunSpec, micro_batches: int, step: int) -> tuple[int, int]:
    """Return the first micro-batch of a step and the one after its last, in an epoch of so many micro-batches."""
    if spec.full_batch:
        return 0, micro_batches
    size = spec.micro_batches_per_step
    return step * size, min((step + 1) * size, micro_batches)
