"""Building a store: augmented copies of a data set's training images, in one LMDB file.

The store is a function of the images, the augmentation, the number of copies and the seed alone. Every image of every
copy has draws of its own, which depend on (seed, copy, index) and on nothing else.

One process writes: augmenting takes 3 µs an image, so the disk is what takes time, and more workers bring nothing. A
part is written in transactions of some 64 MB, each of which survives an interruption. Once it is whole it is copied in
one go into the file that stays: LMDB lays out the same bytes only if it is asked for the same things in the same order.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import lmdb
import numpy as np
from filelock import FileLock
from tqdm import tqdm

from whysgd.data.augmentation import draw_copy
from whysgd.data.canonical import Dataset
from whysgd.data.store import FORMAT, Store, open_store, trailer
from whysgd.errors import UserError
from whysgd.files import digest_of, write_json
from whysgd.spec import Augmentation, StoredCopies

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
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with lock:
            if not path.exists():
                _build(dataset, plan, path, progress)
            store = open_store(path, verify=True)
    except (OSError, lmdb.Error) as error:
        # LMDB passes on the operating system's words.
        if getattr(error, "errno", None) == errno.ENOSPC or os.strerror(errno.ENOSPC) in str(error):
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
        **asdict(plan),
        "images": len(images),
        "shape": list(images.shape[1:]),
        "classes": dataset.manifest["classes"],
        "chunk": max(1, (CHUNK_BYTES - PAGE_HEADER) // image_bytes),
        "source": {key: dataset.manifest[key] for key in ("name", "label", "sha256")},
        "mean": dataset.manifest["mean"],
        "std": dataset.manifest["std"],
    }


def _build(dataset: Dataset, plan: StoredCopies, path: Path, progress: bool) -> None:
    meta = _meta(dataset, plan)
    labels = dataset.train.labels.astype("<i8")
    total = plan.copies * len(labels) * dataset.train.images[0].nbytes
    # The part's name says what it is part of: another plan's is not continued.
    part = path.with_name(f".{path.name}.{digest_of(meta)}.part")
    _remove_others(path, part)
    done = part.stat().st_size if part.exists() else 0
    needed = 2 * map_size(meta) - min(done, map_size(meta))
    if shutil.disk_usage(path.parent).free < needed:
        raise UserError(f"{path}: the disk is full: the build needs {needed / 1e9:.2f} GB, the store half of it")
    environment = lmdb.open(str(part), subdir=False, map_size=map_size(meta), lock=False, sync=False, metasync=False)
    try:
        with environment.begin() as transaction:
            written = transaction.stat()["entries"]
        digest = hashlib.sha256()
        chunks = copies_in_chunks(dataset.train.images, plan, meta["chunk"])
        bar = tqdm(total=total, unit="B", unit_scale=True, desc=path.name, disable=None if progress else True)
        transaction, size = environment.begin(write=True), 0
        for number, chunk in enumerate(chunks):
            # Chunks that are there already are made again, since the checksum needs them, and not written.
            digest.update(chunk)
            bar.update(chunk.nbytes)
            if number < written:
                continue
            transaction.put(_key(number), chunk.data, append=True)
            size += chunk.nbytes
            if size >= TRANSACTION_BYTES:
                transaction.commit()
                transaction, size = environment.begin(write=True), 0
        transaction.commit()
        bar.close()
        digest.update(labels)
        last = {b"labels": labels.tobytes(), b"meta": json.dumps({**meta, "sha256": digest.hexdigest()}).encode()}
        _copy(environment, number + 1, last, path)
    finally:
        environment.close()
    part.unlink()


def _copy(part: lmdb.Environment, chunks: int, last: dict[bytes, bytes], path: Path) -> None:
    """Write the store from its whole part, with what comes last, and the checksum behind it all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        store = lmdb.open(
            str(temporary), subdir=False, map_size=part.info()["map_size"], lock=False, sync=False, metasync=False
        )  # fmt: skip
        transaction, size = store.begin(write=True), 0
        with part.begin(buffers=True) as written:
            for number in range(chunks):
                value = written.get(_key(number))
                transaction.put(_key(number), value, append=True)
                size += len(value)
                if size >= TRANSACTION_BYTES:
                    transaction.commit()
                    transaction, size = store.begin(write=True), 0
        for key, value in last.items():
            transaction.put(key, value)
        transaction.commit()
        pages = (store.info()["last_pgno"] + 1) * store.stat()["psize"]
        store.sync(True)
        store.close()
        with open(temporary, "r+b") as file:
            line = trailer(file, pages)
            file.truncate(pages)
            file.seek(pages)
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink()


def _key(number: int) -> bytes:
    return b"images/%08d" % number


def _remove_others(path: Path, part: Path) -> None:
    """Parts of other plans for this path, and what a killed process left."""
    for file in (*path.parent.glob(f".{path.name}.*.part"), *path.parent.glob(f".{path.name}.*.tmp")):
        if file != part:
            file.unlink(missing_ok=True)


def map_size(meta: dict) -> int:
    """Bytes that LMDB needs for a store, page by page; a sixteenth more for its trees and freed pages."""
    image = int(np.prod(meta["shape"]))
    total = meta["copies"] * meta["images"]
    chunks = -(-total // meta["chunk"])
    pages = chunks * -(-(meta["chunk"] * image + PAGE_HEADER) // PAGE) + -(-8 * meta["images"] // PAGE)
    return (pages + pages // 16 + 256) * PAGE


def copies_in_chunks(images: np.ndarray, plan: StoredCopies, chunk: int) -> Iterator[np.ndarray]:
    """All copies one after another, as arrays (m, C, H, W) of `chunk` images, the last one of fewer."""
    buffer, filled = np.empty((chunk, *images.shape[1:]), np.uint8), 0
    for copy in range(plan.copies):
        for part in _one_copy(images, plan, copy, chunk):
            start = 0
            while start < len(part):
                count = min(chunk - filled, len(part) - start)
                buffer[filled : filled + count] = part[start : start + count]
                filled, start = filled + count, start + count
                if filled == chunk:
                    yield buffer
                    filled = 0
    if filled:
        yield buffer[:filled]


def _one_copy(images: np.ndarray, plan: StoredCopies, copy: int, batch: int) -> Iterator[np.ndarray]:
    """One copy in batches."""
    plain = plan.clean_first and copy == 0
    draws = None if plain else draw_copy(Augmentation(plan.crop_padding, plan.flip), len(images), plan.seed, copy)
    for start in range(0, len(images), batch):
        rows = slice(start, start + batch)
        part = np.ascontiguousarray(images[rows])
        if draws is None:
            yield part
        else:
            yield crop_and_flip_each(part, *(d[rows] for d in draws), plan.crop_padding)


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


def describe(store: Store, path: Path) -> dict:
    """The store's description, as the JSON beside it has it, with its size."""
    return {**store.meta, "bytes": path.stat().st_size}


def write_description(store: Store, path: Path) -> None:
    """Write the description beside the store."""
    write_json(path.with_suffix(".json"), describe(store, path))
