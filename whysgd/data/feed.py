"""The training images of each epoch: in its order, augmented, on the device.

An epoch is made ready in chunks of whole blocks, augmented in one pass; a stack of blocks is then a slice. On a GPU
the next chunk is prepared, on a stream of its own, while the current one is used: from images that live there, or,
where they do not fit, from the computer's memory or a store on disk.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from threading import Lock

import numpy as np
import torch

from whysgd.data.augmentation import Draws, crop_and_flip, draw
from whysgd.data.blocks import epoch_blocks
from whysgd.data.store import Store
from whysgd.study.spec import RunSpec, blocks_per_epoch

# Bytes of images in one chunk: enough to keep a GPU busy, and little beside a CPU's memory.
CHUNK_BYTES = {"cuda": 256 << 20, "cpu": 4 << 20}
# Images stay where they are if they would take more than this share of the GPU's memory; a store stays on disk, for a
# CPU, if it has more than these bytes.
LARGEST_SHARE, LARGEST_ON_CPU = 0.25, 512 << 20


class Feed:
    """Stacks of blocks, the same on every device and wherever the images lie.

    Args:
        spec: says the order, the blocks and the augmentation.
        images, labels: (N, C, H, W) uint8 and (N,) int64, of the whole training set; or a store of copies of it
            (`whysgd.data.store`), and the labels of one copy.
        device: where stacks are wanted.
        most: blocks in one stack, at most.
        images_on: "device", "host" (they stream from the computer's memory or the store), or "auto" by size.
        chunk_bytes: of uint8 images; None chooses by device.
        ahead: prepare the next chunk in a thread; None does so for a GPU.
    """

    def __init__(
        self,
        spec: RunSpec,
        images: np.ndarray | Store,
        labels: np.ndarray,
        device,
        most: int = 1,
        images_on: str = "auto",
        chunk_bytes: int | None = None,
        ahead: bool | None = None,
    ):
        self.spec, self.device, self.most = spec, torch.device(device), most
        self.labels, self.count = torch.from_numpy(labels), len(images)
        stored = not isinstance(images, np.ndarray)
        image_bytes = images.image_bytes if stored else images[0].nbytes
        self.resident = fits(len(images) * image_bytes, self.device, images_on, stored)
        if stored and not self.resident:
            self.images, self.store = None, images
        else:
            self.images, self.store = torch.from_numpy(images.read() if stored else images), None
        if self.resident:
            self.images = self.images.to(self.device)
        self.blocks = blocks_per_epoch(spec, len(labels))
        block_bytes = spec.block * image_bytes
        # Whole stacks, so that the borders of chunks change no stack.
        stacks = max(1, (chunk_bytes or CHUNK_BYTES[self.device.type]) // (block_bytes * most))
        self.per_chunk = stacks * most
        gpu = self.device.type == "cuda"
        self.stream = torch.cuda.Stream(self.device) if gpu else None
        # A thread's device is the first GPU until it is told otherwise.
        settings = {"initializer": torch.cuda.set_device, "initargs": (self.device,)} if gpu else {}
        self.executor = ThreadPoolExecutor(1, **settings) if (gpu if ahead is None else ahead) else None
        self.pending: dict[tuple[int, int], Future] = {}
        self.current: tuple | None = None
        self.plans: dict[int, tuple] = {}
        self.lock = Lock()

    def stacks(self, epoch: int, first: int, end: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """The blocks first … end − 1 of an epoch, in order, in stacks of neighbours of equal size.

        Yields:
            images (k, n, C, H, W) uint8 and labels (k, n).
        """
        n, begin = self.spec.block, first
        while first < end:
            chunk = first // self.per_chunk
            # After these blocks an epoch of the same ones is expected: another pass, or the next epoch.
            last = (chunk + 1) * self.per_chunk >= (end if self.spec.full_batch else self.blocks)
            restart = begin // self.per_chunk if self.spec.full_batch else 0
            following = (epoch + 1, restart) if last else (epoch, chunk + 1)
            images, labels = self._chunk(epoch, chunk, following)
            start = chunk * self.per_chunk
            stop = min(first + self.most, end, start + self.per_chunk)
            # Only the epoch's last block can have fewer images; it is a stack of its own.
            short = len(labels) - (stop - 1 - start) * n
            if short < n and stop - first > 1:
                stop -= 1
            rows = slice((first - start) * n, (stop - start) * n)
            k = stop - first
            yield images[rows].unflatten(0, (k, -1)), labels[rows].unflatten(0, (k, -1))
            first = stop

    def _chunk(self, epoch: int, chunk: int, following: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Images (m, C, H, W) and labels (m,) of one chunk, in order; `following` is likely to be the next one."""
        key = (epoch, chunk)
        if self.current is None or self.current[0] != key:
            future = self.pending.pop(key, None)
            images, labels, ready = future.result() if future else self._prepare(key)
            if ready is not None:
                stream = torch.cuda.current_stream(self.device)
                stream.wait_event(ready)
                for tensor in (images, labels):
                    tensor.record_stream(stream)
            self.current = (key, images, labels)
            if self.executor is not None:
                # What was foreseen and not wanted is dropped.
                for unwanted in self.pending.values():
                    unwanted.cancel()
                self.pending = {following: self.executor.submit(self._prepare, following)}
        return self.current[1:]

    def take(self, epoch: int, places: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Images (m, C, H, W) uint8 and labels (m,) at these places of an epoch's order, augmented as in it.

        A place counts the images in the order in which `stacks` yields them, from 0.
        """
        blocks, draws = self._plan(epoch)
        return self._gather(np.concatenate(blocks)[places], draws)

    def fresh(self, numbers: np.ndarray, purpose: str, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Images and labels of these numbers, augmented by draws of a stream of their own, (seed, purpose, index)."""
        augment = self.spec.augment
        draws = draw(augment, self.count, self.spec.seed, index, purpose=purpose) if augment else None
        return self._gather(numbers, draws)

    def _prepare(self, key: tuple[int, int]):
        """Gather, move and augment one chunk; the event, on a GPU, says when that is done."""
        epoch, chunk = key
        blocks, draws = self._plan(epoch)
        chosen = blocks[chunk * self.per_chunk : (chunk + 1) * self.per_chunk]
        with torch.cuda.stream(self.stream) if self.stream else nullcontext():
            images, labels = self._gather(np.concatenate(chosen), draws)
            return images, labels, self.stream.record_event() if self.stream else None

    def _plan(self, epoch: int) -> tuple[list[np.ndarray], Draws | None]:
        """The blocks of an epoch and the augmentation of every image in it."""
        # One thread may look ahead into the next epoch while the other one takes images of this one.
        with self.lock:
            if epoch not in self.plans:
                augment = self.spec.augment
                draws = draw(augment, self.count, self.spec.seed, epoch) if augment else None
                plan = epoch_blocks(self.spec, len(self.labels), epoch), draws
                self.plans = {**dict(list(self.plans.items())[-1:]), epoch: plan}
            return self.plans[epoch]

    def _gather(self, numbers: np.ndarray, draws: Draws | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Images and labels of these numbers, on the device, augmented by their draws."""
        order = torch.from_numpy(numbers)
        labels = self._moved(self.labels[order % len(self.labels)])
        if self.store is not None:
            images = self._moved(torch.from_numpy(self.store.take(numbers)))
        elif self.resident:
            images = self.images[self._moved(order)]
        else:
            images = self._moved(self.images[order])
        if draws is not None:
            own = draws.take(order)
            own = Draws(*(self._moved(part) for part in (own.top, own.left, own.flip)))
            images = crop_and_flip(images, own, self.spec.augment.crop_padding)
        return images, labels

    def _moved(self, tensor: torch.Tensor) -> torch.Tensor:
        if self.device.type == "cpu":
            return tensor
        return tensor.pin_memory().to(self.device, non_blocking=True)


def fits(size: int, device: torch.device, images_on: str = "auto", stored: bool = False) -> bool:
    """Whether so many bytes of images, in memory or in a store, shall live on the device."""
    if images_on != "auto":
        return images_on == "device"
    if device.type != "cuda":
        return not stored or size <= LARGEST_ON_CPU
    return size <= LARGEST_SHARE * torch.cuda.get_device_properties(device).total_memory
