"""Building a store: augmented copies of a data set's training images, in one LMDB file.

The store is a function of the images, the augmentation, the number of copies and the seed alone. Every image of every
copy has draws of its own, which depend on seed, copy, index and the number of images, and on nothing else. Ten copies
of CIFAR-10 take seconds: a build that was interrupted begins again.
"""

import hashlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from whysgd.data.augmentation import Draws, crop_and_flip, draw_copy
from whysgd.data.canonical import Dataset
from whysgd.data.store import FORMAT, Store, lmdb_library, open_store, trailer
from whysgd.errors import UserError
from whysgd.files import locked, write_atomically, write_json
from whysgd.study.settings import CropAndFlip
from whysgd.study.spec import StoredCopies

lmdb = lmdb_library()
PAGE = 4096
# A value fills pages but for their 16 bytes of header; with 64 pages less than an image's size is lost in each.
CHUNK_BYTES, PAGE_HEADER = 64 * PAGE, 16


def build_store(dataset: Dataset, plan: StoredCopies, path: Path, progress: bool = False) -> Store:
    """Write a store; a finished one of the same plan is left as it is.

    Args:
        dataset: whose training images are copied.
        plan: how.
        path: the file; beside it lies a lock. Two builds at once wait for each other.
        progress: show a bar on a terminal.

    Raises:
        UserError: the disk is full, the folder cannot be written, or `path` is a store of another plan.
    """
    path, wanted = Path(path), _meta(dataset, plan)
    if plan.crop_padding > (size := dataset.train.images.shape[2]):
        raise UserError(f"{path}: crop_padding = {plan.crop_padding}: must be at most {size}, the images' size")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.with_name(f".{path.name}.lock")):
            there = path.exists()
            if not there:
                _make_room(path, map_size(wanted))
                write_atomically(path, lambda file: _build(dataset, plan, file, progress))
            # What was just written has been read for its checksum already.
            store = open_store(path, verify=there)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error})") from None
    except lmdb.Error as error:
        # LMDB calls a write that was cut short an input/output error.
        raise UserError(f"{path}: cannot be written ({error}); is the disk full?") from None
    if different := [key for key in wanted if store.meta[key] != wanted[key]]:
        raise UserError(f"{path}: is another store (of another {', '.join(different)}); remove it to build it again")
    return store


def _make_room(path: Path, needed: int) -> None:
    """Remove what killed builds of this file have left, and see that the disk has room for a new one."""
    leftover = re.compile(rf"\.{re.escape(path.stem)}\.\d+\.tmp{re.escape(path.suffix)}")
    for file in path.parent.iterdir():
        if leftover.fullmatch(file.name):
            file.unlink()
    if shutil.disk_usage(path.parent).free < needed:
        raise UserError(f"{path}: the disk has too little room: the build needs {needed / 1e6:,.1f} MB")


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


def _build(dataset: Dataset, plan: StoredCopies, file: Path, progress: bool) -> None:
    meta, images = _meta(dataset, plan), torch.from_numpy(dataset.train.images)
    draws, numbers = draws_of_copies(plan, len(images)), torch.arange(plan.copies * len(images))
    labels, digest = dataset.train.labels.astype("<i8").tobytes(), hashlib.sha256()
    bar = tqdm(total=len(numbers), unit="image", desc=plan.name, disable=None if progress else True)
    # The caller flushes the file as a whole.
    with bar, lmdb.open(str(file), subdir=False, map_size=map_size(meta), lock=False, sync=False) as environment:
        for key, own in enumerate(numbers.split(meta["chunk"])):
            chunk = crop_and_flip(images[own % len(images)], draws.take(own), plan.crop_padding).numpy()
            with environment.begin(write=True) as transaction:
                transaction.put(b"images/%08d" % key, chunk.data, append=True)
            digest.update(chunk.data)
            bar.update(len(chunk))
        digest.update(labels)
        with environment.begin(write=True) as transaction:
            transaction.put(b"labels", labels)
            transaction.put(b"meta", json.dumps({**meta, "sha256": digest.hexdigest()}).encode())
        pages = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    with open(file, "r+b") as opened:
        line = trailer(opened, pages)
        opened.truncate(pages)
        opened.seek(pages)
        opened.write(line)


def map_size(meta: dict) -> int:
    """Bytes that LMDB needs for a store, page by page; a sixteenth more for its trees and freed pages."""
    image = int(np.prod(meta["shape"]))
    total = meta["copies"] * meta["images"]
    chunks = -(-total // meta["chunk"])
    pages = chunks * -(-(meta["chunk"] * image + PAGE_HEADER) // PAGE) + -(-8 * meta["images"] // PAGE)
    return (pages + pages // 16 + 256) * PAGE


def draws_of_copies(plan: StoredCopies, images: int) -> Draws:
    """Return the draws of every image of every copy, one copy after another."""
    augmentation = CropAndFlip(crop_padding=plan.crop_padding, flip=plan.flip)
    copies = [draw_copy(augmentation, images, plan.seed, copy) for copy in range(plan.copies)]
    if plan.clean_first:
        # The middle of the padded image is the image.
        middle = np.full(images, plan.crop_padding)
        copies[0] = middle, middle, np.zeros(images, bool)
    return Draws(*(torch.from_numpy(np.concatenate(parts)) for parts in zip(*copies, strict=True)))


def write_description(store: Store, path: Path) -> None:
    """Write what the store is, and its size, into a JSON file beside it."""
    write_json(path.with_suffix(".json"), {**store.meta, "bytes": path.stat().st_size})
