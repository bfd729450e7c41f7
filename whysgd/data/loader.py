"""The training images of each epoch: in the order of each seed, augmented, on the device.

An epoch is made ready in chunks of whole micro-batches, augmented in one pass; a group of micro-batches is then a
slice. On a GPU the next chunk is prepared, on a CUDA stream of its own, while the current one is used: from images that
live there, or, where they do not fit, from the computer's memory or a store on disk.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from threading import Lock

import numpy as np
import torch

from whysgd.data.augmentation import Draws, crop_and_flip, draw
from whysgd.data.image_transforms import image_transform, transform_each
from whysgd.data.micro_batches import epoch_micro_batches
from whysgd.data.store import Store
from whysgd.study.length import micro_batches_per_epoch
from whysgd.study.spec import MAX_UP, RunSpec

# Bytes of images in one chunk: enough to keep a GPU busy, and little beside a CPU's memory.
CHUNK_BYTES = {"cuda": 256 << 20, "cpu": 4 << 20}
# Images stay where they are if they would take more than this share of the GPU's memory; a store stays on disk, for a
# CPU, if it has more than these bytes.
LARGEST_SHARE, LARGEST_ON_CPU = 0.25, 512 << 20


class DataLoader:
    """Groups of micro-batches, the same on every device and wherever the images lie.

    Args:
        specs: runs that are equal but for their seeds; they say the order, the micro-batches and the augmentation.
        images, labels: (N, C, H, W) uint8, placed by `place`, and (N,) int64, of the whole training set; or a store of
            copies of it (`whysgd.data.store`), and the labels of one copy.
        device: where groups are wanted.
        most: micro-batches of each seed in one group, at most.
        chunk_bytes: of uint8 images; None chooses by device.
        ahead: prepare the next chunk in a thread; None does so for a GPU.
    """

    def __init__(
        self, specs: Sequence[RunSpec], images: torch.Tensor | Store, labels: torch.Tensor, device, most: int = 1,
        chunk_bytes: int | None = None, ahead: bool | None = None,
    ):  # fmt: skip
        self.spec, self.device, self.most = specs[0], torch.device(device), most
        self.images, self.labels = images, labels
        # Of each image of a micro-batch the network sees so many copies, each augmented on its own.
        self.transforms = [image_transform(one) for one in (self.spec.augment.transforms if self.spec.augment else ())]
        self.repeats = MAX_UP if self.spec.loss == "max_up" else 1
        # Where nothing is drawn all seeds see the same images.
        same = not self.spec.shuffle and self.spec.augment is None
        self.seeds = [spec.seed for spec in specs]
        self.specs = [*specs[:1]] if same else [*specs]
        self.micro_batches_per_epoch = micro_batches_per_epoch(self.spec, len(labels))
        image_bytes = images.image_bytes if isinstance(images, Store) else images[0].numel()
        micro_batch_bytes = self.spec.micro_batch * self.repeats * image_bytes * len(self.specs)
        # Whole groups, so that the borders of chunks change no group.
        groups = max(1, (chunk_bytes or CHUNK_BYTES[self.device.type]) // (micro_batch_bytes * most))
        self.per_chunk = groups * most
        gpu = self.device.type == "cuda"
        self.stream = torch.cuda.Stream(self.device) if gpu else None
        # A thread's device is the first GPU until it is told otherwise.
        settings = {"initializer": torch.cuda.set_device, "initargs": (self.device,)} if gpu else {}
        self.executor = ThreadPoolExecutor(1, **settings) if (gpu if ahead is None else ahead) else None
        self.pending: dict[tuple[int, int], Future] = {}
        self.current: tuple | None = None
        self.plans: dict[int, tuple] = {}
        self.lock = Lock()

    def groups(self, epoch: int, first: int, end: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield the micro-batches first … end − 1 of an epoch, in order, in groups of neighbours of equal size.

        Yields:
            images (S, k, n, C, H, W) uint8 and labels (S, k, n); S is 1 if all seeds see the same. The copies of an
            image that `max_up` takes are neighbours among the n.
        """
        n, begin = self.spec.micro_batch * self.repeats, first
        while first < end:
            chunk = first // self.per_chunk
            # After these an epoch of the same ones is expected: another pass, or the next epoch.
            last = (chunk + 1) * self.per_chunk >= (end if self.spec.full_batch else self.micro_batches_per_epoch)
            restart = begin // self.per_chunk if self.spec.full_batch else 0
            following = (epoch + 1, restart) if last else (epoch, chunk + 1)
            images, labels = self._chunk(epoch, chunk, following)
            start = chunk * self.per_chunk
            stop = min(first + self.most, end, start + self.per_chunk)
            # Only the epoch's last micro-batch can have fewer images; it is a group of its own.
            short = labels.shape[1] - (stop - 1 - start) * n
            if short < n and stop - first > 1:
                stop -= 1
            rows = slice((first - start) * n, (stop - start) * n)
            k = stop - first
            yield images[:, rows].unflatten(1, (k, -1)), labels[:, rows].unflatten(1, (k, -1))
            first = stop

    def _chunk(self, epoch: int, chunk: int, following: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return images (S, m, C, H, W) and labels (S, m) of one chunk; `following` is likely to be the next one."""
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

    def take(self, epoch: int, places: Sequence[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return images (S, m, C, H, W) uint8 and labels (S, m) at m places of each seed's order, augmented as in it.

        A place counts the images in the order in which `groups` yields them, from 0.
        """
        plans = self._plans(epoch)
        plans = plans * (len(places) // len(plans))
        numbers = [np.concatenate(micro_batches)[own] for (micro_batches, _), own in zip(plans, places, strict=True)]
        return self._gather(numbers, [draws for _, draws in plans], places)

    def fresh(self, numbers: Sequence[np.ndarray], purpose: str, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return images (S, m, C, H, W) and labels (S, m) of each seed's numbers, augmented by draws of their own.

        These are from the streams (seed, purpose, index).
        """
        augment, count = self.spec.augment, len(self.images) * self.repeats
        draws = [draw(augment, count, seed, index, purpose=purpose) if augment else None for seed in self.seeds]
        return self._gather(numbers, draws, numbers)

    def close(self) -> None:
        """Stop preparing chunks."""
        if self.executor is not None:
            self.executor.shutdown(cancel_futures=True)

    def _prepare(self, key: tuple[int, int]):
        """Gather, move and augment one chunk; the event, on a GPU, says when that is done."""
        epoch, chunk = key
        here = slice(chunk * self.per_chunk, (chunk + 1) * self.per_chunk)
        plans = self._plans(epoch)
        with torch.cuda.stream(self.stream) if self.stream else nullcontext():
            numbers = [np.concatenate(micro_batches[here]) for micro_batches, _ in plans]
            places = here.start * self.spec.micro_batch + np.arange(len(numbers[0]))
            images, labels = self._gather(numbers, [draws for _, draws in plans], [places] * len(plans))
            return images, labels, self.stream.record_event() if self.stream else None

    def _plans(self, epoch: int) -> list[tuple[list[np.ndarray], Draws | None]]:
        """Return each seed's micro-batches of an epoch, and the augmentation of every image in it."""
        # One thread may look ahead into the next epoch while the other one takes images of this one.
        with self.lock:
            if epoch not in self.plans:
                augment, count = self.spec.augment, len(self.images) * self.repeats
                plans = [
                    (epoch_micro_batches(spec, len(self.labels), epoch),
                     draw(augment, count, spec.seed, epoch) if augment else None)
                    for spec in self.specs
                ]  # fmt: skip
                self.plans = {**dict(list(self.plans.items())[-1:]), epoch: plans}
            return self.plans[epoch]

    def _gather(self, numbers: Sequence[np.ndarray], draws: Sequence[Draws | None], places: Sequence[np.ndarray]):
        """Return the images and labels of each seed's numbers, on the device, augmented by the seed's draws.

        An image has the draws of its number, or, where the epoch may have it twice, of its place in the epoch.
        """
        keys = np.stack(places if self.spec.replacement else numbers)[..., None] * self.repeats
        keys = torch.from_numpy((keys + np.arange(self.repeats)).reshape(len(numbers), -1))
        seeds, order = len(numbers), torch.from_numpy(np.concatenate(numbers).repeat(self.repeats))
        labels = self._moved(self.labels[order % len(self.labels)])
        if isinstance(self.images, Store):
            images = self._moved(torch.from_numpy(self.images.take(order.numpy())))
        elif self.images.is_cuda:
            images = self.images[self._moved(order)]
        else:
            images = self._moved(self.images[order])
        if draws[0] is not None:
            parts = [draw.take(own) for draw, own in zip(draws, keys, strict=True)]
            whole = (torch.cat([getattr(part, name) for part in parts]) for name in ("top", "left", "flip"))
            images = crop_and_flip(images, Draws(*map(self._moved, whole)), self.spec.augment.crop_padding)
            if self.transforms:
                images = transform_each(images.cpu(), torch.cat([part.seeds for part in parts]), self.transforms)
                images = self._moved(images)
        return images.unflatten(0, (seeds, -1)), labels.view(seeds, -1)

    def _moved(self, tensor: torch.Tensor) -> torch.Tensor:
        if self.device.type == "cpu":
            return tensor
        return tensor.pin_memory().to(self.device, non_blocking=True)


def place(images: np.ndarray | Store, device: torch.device, images_on: str = "auto") -> torch.Tensor | Store:
    """Bring images to where they shall lie: in the device's memory if they fit, else where they are.

    Args:
        images: (N, C, H, W) uint8, or a store of such.
        device: that trains.
        images_on: "device", "host" (images stream from the computer's memory or the store), or "auto" by size.
    """
    stored = isinstance(images, Store)
    size = len(images) * (images.image_bytes if stored else images[0].nbytes)
    here = fits(size, device, images_on, stored)
    if stored and not here:
        return images
    tensor = torch.from_numpy(images.read() if stored else images)
    return tensor.to(device) if here else tensor


def fits(size: int, device: torch.device, images_on: str = "auto", stored: bool = False) -> bool:
    """Return whether so many bytes of images, in memory or in a store, shall live on the device."""
    if images_on != "auto":
        return images_on == "device"
    if device.type != "cuda":
        return not stored or size <= LARGEST_ON_CPU
    return size <= LARGEST_SHARE * torch.cuda.get_device_properties(device).total_memory
