"""Building a store: augmented copies of a data set's training images, in one LMDB file.

The store is a function of the images, the augmentation, the number of copies and the seed alone. Every image of every
copy has draws of its own, which depend on seed, copy, index and the number of images, and on nothing else.

One process does it all: augmenting takes 3 µs an image, about as long as writing it. A part is written in transactions
of some 64 MB, each of which survives an interruption. LMDB lays out the same bytes only if it is asked for the same
things in the same order; so a build that was interrupted begins a new part, and takes from the earlier one what it has.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np
from tqdm import tqdm

from whysgd.data.augmentation import draw_copy
from whysgd.data.canonical import Dataset
from whysgd.data.store import FORMAT, Store, lmdb_library, open_store, trailer
from whysgd.errors import UserError
from whysgd.files import digest_of, locked, write_json
from whysgd.study.settings import CropAndFlip
from whysgd.study.spec import StoredCopies

lmdb = lmdb_library()
PAGE = 4096
# A value fills pages but for their 16 bytes of header; with 64 pages less than an image's size is lost in each.
CHUNK_BYTES, PAGE_HEADER = 64 * PAGE, 16
TRANSACTION_BYTES = 64 << 20


def build_store(dataset: Dataset, plan: StoredCopies, path: Path, progress: bool = False) -> Store:
    """Write a store, or continue one that was interrupted; a finished one of the same plan is left as it is.

    Args:
        dataset: whose training images are copied.
        plan: how.
        path: the file; beside it lie, while it is built, a part and a lock. Two builds at once wait for each other.
        progress: show a bar on a terminal.

    Raises:
        UserError: the disk is full, the folder cannot be written, or `path` is a store of another plan.
    """
    path = Path(path)
    if plan.crop_padding > (size := dataset.train.images.shape[2]):
        raise UserError(f"{path}: crop_padding = {plan.crop_padding}: must be at most {size}, the images' size")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.with_name(f".{path.name}.lock")):
            there = path.exists()
            if not there:
                _build(dataset, plan, path, progress)
            # What was just written has been read for its checksum already.
            store = open_store(path, verify=there)
    except (OSError, lmdb.Error) as error:
        # LMDB calls a write that was cut short an input/output error.
        cut = isinstance(error, lmdb.Error) and shutil.disk_usage(path.parent).free < TRANSACTION_BYTES
        if cut or getattr(error, "errno", None) == errno.ENOSPC:
            raise UserError(f"{path}: the disk is full; with more room the build continues where it stopped") from None
        raise UserError(f"{path}: cannot be written ({error})") from None
    wanted = _meta(dataset, plan)
    if different := [key for key in wanted if store.meta[key] != wanted[key]]:
        raise UserError(f"{path}: is another store (of another {', '.join(different)}); remove it to build it again")
    return store


def _meta(dataset: Dataset, plan: StoredCopies) -> dict:
    """What b"meta" has, but for the checksum."""
    images = dataset.train.images
    image_bytes = images[0].nbytes
    return {
        "format": FORMAT,
        **plan.content,
        "images": len(images),
        "shape": list(images.shape[1:]),
        "classes": dataset.manifest["classes"],
        "chunk": max(1, (CHUNK_BYTES - PAGE_HEADER) // image_bytes),
        "source": {key: dataset.manifest[key] for key in ("name", "label", "sha256")},
        "mean": dataset.manifest["mean"],
        "std": dataset.manifest["std"],
    }


def _build(dataset: Dataset, plan: StoredCopies, path: Path, progress: bool) -> None:
    meta, images = _meta(dataset, plan), dataset.train.images
    labels = dataset.train.labels.astype("<i8")
    total, chunk = plan.copies * len(labels), meta["chunk"]
    # The part's name says what it is part of: another plan's is not continued.
    part = path.with_name(f".{path.name}.{digest_of(meta)}.part")
    earlier = _earlier_part(path, part)
    needed = map_size(meta)
    if shutil.disk_usage(path.parent).free < needed:
        raise UserError(f"{path}: the disk is full: the build needs {needed / 1e6:,.1f} MB")
    draws = lru_cache(2)(lambda copy: draws_of_copy(plan, len(images), copy))
    bar = tqdm(total=total, unit="image", desc=path.name, disable=None if progress else True)
    environment = lmdb.open(str(part), subdir=False, map_size=needed, lock=False)
    try:
        with _reading(earlier) as found, _Writer(environment) as writer:
            for number, start in enumerate(range(0, total, chunk)):
                value = found.get(_key(number)) if found else None
                if value is None:
                    value = chunk_of_copies(images, plan, draws, start, min(chunk, total - start)).data.cast("B")
                writer.add(_key(number), value)
                bar.update(len(value) // images[0].nbytes)
            bar.close()
            writer.finish(labels.tobytes(), meta)
        pages = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    finally:
        environment.close()
    with open(part, "r+b") as file:
        line = trailer(file, pages)
        file.truncate(pages)
        file.seek(pages)
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)
    _remove_others(path)


class _Writer:
    """Puts values in order, commits every 64 MB, and sums them up; what is not committed on failure is given up."""

    def __init__(self, environment: lmdb.Environment):
        self.environment, self.transaction, self.size = environment, environment.begin(write=True), 0
        self.digest = hashlib.sha256()

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, kind, *rest) -> None:
        if kind is not None:
            self.transaction.abort()

    def add(self, key: bytes, value) -> None:
        """Put a chunk of images."""
        self.transaction.put(key, value, append=True)
        self.digest.update(value)
        self.size += len(value)
        if self.size >= TRANSACTION_BYTES:
            self.transaction.commit()
            self.transaction, self.size = self.environment.begin(write=True), 0

    def finish(self, labels: bytes, meta: dict) -> None:
        """Put what comes last."""
        self.digest.update(labels)
        self.transaction.put(b"labels", labels)
        self.transaction.put(b"meta", json.dumps({**meta, "sha256": self.digest.hexdigest()}).encode())
        self.transaction.commit()


def _earlier_part(path: Path, part: Path) -> Path | None:
    """What an interrupted build of the same plan has left, out of the way of a new one.

    The longer one, if that build had itself begun from another's part.
    """
    earlier = part.with_suffix(".earlier")
    if part.exists() and not (earlier.exists() and _chunks_in(earlier) >= _chunks_in(part)):
        os.replace(part, earlier)
    part.unlink(missing_ok=True)
    _remove_others(path, earlier)
    if _chunks_in(earlier) == 0:
        earlier.unlink(missing_ok=True)
    return earlier if earlier.exists() else None


def _chunks_in(part: Path) -> int:
    """Chunks that survived in a part; 0 if it is not readable."""
    try:
        with lmdb.open(str(part), subdir=False, readonly=True, lock=False) as environment:
            pages = environment.info()["last_pgno"] + 1
            # LMDB maps the file into memory: a page behind its end would end the process.
            whole = part.stat().st_size >= pages * environment.stat()["psize"]
            return environment.stat()["entries"] if whole else 0
    except lmdb.Error:
        return 0


@contextmanager
def _reading(part: Path | None):
    """A transaction that reads a part, or None."""
    if part is None:
        yield None
        return
    with lmdb.open(str(part), subdir=False, readonly=True, lock=False) as environment, environment.begin() as reading:
        yield reading


def _remove_others(path: Path, kept: Path | None = None) -> None:
    """Parts of other plans for this path."""
    for pattern in ("part", "earlier"):
        for file in path.parent.glob(f".{path.name}.*.{pattern}"):
            if file != kept:
                file.unlink(missing_ok=True)


def _key(number: int) -> bytes:
    return b"images/%08d" % number


def map_size(meta: dict) -> int:
    """Bytes that LMDB needs for a store, page by page; a sixteenth more for its trees and freed pages."""
    image = int(np.prod(meta["shape"]))
    total = meta["copies"] * meta["images"]
    chunks = -(-total // meta["chunk"])
    pages = chunks * -(-(meta["chunk"] * image + PAGE_HEADER) // PAGE) + -(-8 * meta["images"] // PAGE)
    return (pages + pages // 16 + 256) * PAGE


def draws_of_copy(plan: StoredCopies, images: int, copy: int) -> tuple[np.ndarray, ...] | None:
    """Top, left and flip of every image of a copy; None for a copy that is left as it is."""
    if plan.clean_first and copy == 0:
        return None
    return draw_copy(CropAndFlip(crop_padding=plan.crop_padding, flip=plan.flip), images, plan.seed, copy)


def chunk_of_copies(images: np.ndarray, plan: StoredCopies, draws: Callable, start: int, count: int) -> np.ndarray:
    """The images numbered start … start + count − 1 of the store: (count, C, H, W).

    Args:
        images: (n, C, H, W) of the training set; image i of copy c has the number c · n + i.
        plan: how copies are made.
        draws: draws(copy) is `draws_of_copy`; a function, so that it can remember.
        start, count: which ones, in any order of calls.
    """
    out, filled = np.empty((count, *images.shape[1:]), np.uint8), 0
    while filled < count:
        copy, first = divmod(start + filled, len(images))
        rows = slice(first, min(first + count - filled, len(images)))
        part, drawn = images[rows], draws(copy)
        if drawn is not None:
            part = crop_and_flip_each(part, *(d[rows] for d in drawn), plan.crop_padding)
        out[filled : filled + len(part)] = part
        filled += len(part)
    return out


def crop_and_flip_each(images: np.ndarray, top, left, flip, padding: int) -> np.ndarray:
    """`whysgd.data.augmentation.crop_and_flip` in numpy, image by image.

    On one core of a CPU it takes 3 µs for an image of 32×32; gathering pixel by pixel takes 10.

    Args:
        images: (n, C, H, W) uint8.
        top, left, flip: (n,), offsets in [0, 2·padding] and truth values.
    """
    n, channels, height, width = images.shape
    padded = np.zeros((n, channels, height + 2 * padding, width + 2 * padding), np.uint8)
    padded[:, :, padding : padding + height, padding : padding + width] = images
    out = np.empty_like(images)
    for i, (y, x, mirrored) in enumerate(zip(top.tolist(), left.tolist(), flip.tolist(), strict=True)):
        window = padded[i, :, y : y + height, x : x + width]
        out[i] = window[:, :, ::-1] if mirrored else window
    return out


def write_description(store: Store, path: Path) -> None:
    """Write what the store is, and its size, into a JSON file beside it."""
    write_json(path.with_suffix(".json"), {**store.meta, "bytes": path.stat().st_size})
