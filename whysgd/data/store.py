"""Reading a store: augmented copies of a data set's training images in one LMDB file, drawn once and then fixed.

Keys and values, in the order of the file:

    b"images/00000000", b"images/00000001", …    `chunk` images each (the last has fewer): uint8, (C, H, W), in order
    b"labels"                                    int64, little-endian, one for each image of a copy
    b"meta"                                      JSON: what the store is, see `META`

Image i of copy c has the number c · images + i, and lies in chunk number // chunk. Many images share a value because
LMDB gives every large value whole pages of 4 KiB. Behind LMDB's last page stands one line with the CRC-32 of all before
it, trees included, so that a damaged file is seen before LMDB follows a wrong pointer in it (the
sha256 of the content, which is in `meta`, would take twice as long).
"""

import json
import os
import zlib
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO
from weakref import WeakValueDictionary

import numpy as np

from whysgd.errors import UserError

FORMAT = "whysgd store 1"
TRAILER_BYTES = len(b"whysgd crc32 ") + 8 + 1
# What b"meta" has. `sha256` is that of all images in order, then the labels, as they lie in the values.
META = (
    "format", "copies", "images", "shape", "classes", "chunk", "clean_first", "crop_padding", "flip", "seed", "source",
    "mean", "std", "sha256",
)  # fmt: skip


def open_store(path: str | os.PathLike, verify: bool = False) -> "Store":
    """Open a store for reading; one that is open in this process is returned as it is.

    Args:
        path: the file.
        verify: read the whole file first and compare it with its checksum. A damaged file that is not verified can
            end the process.

    Raises:
        UserError: there is no store, it is cut short or altered, or not of this format; the line names it.

    Example:
        >>> store = open_store("results/stores/digits/x10-crop1-seed0.lmdb")
        >>> first_images = store.take(np.arange(10))
        >>> store.copies, store.images, store.classes
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no store there; make one with `whysgd build-store`")
    if verify:
        verify_file(path)
    status = path.stat()
    key = (status.st_dev, status.st_ino)
    if (store := _OPEN.get(key)) is None:
        store = _OPEN[key] = Store(path)
    return store


def verify_file(path: Path) -> None:
    """Compare a store's file with the checksum at its end.

    Raises:
        UserError: it was cut short or altered.
    """
    if (size := path.stat().st_size - TRAILER_BYTES) < 0:
        raise refused(path, "it was cut short")
    with open(path, "rb") as file:
        expected = trailer(file, size)
        if file.read() != expected:
            raise refused(path, "it was altered or cut short (the checksum differs)")


def trailer(file: BinaryIO, size: int) -> bytes:
    """The line that stands behind the first `size` bytes of a store."""
    checksum, left = 0, size
    while left and (part := file.read(min(left, 1 << 22))):
        checksum = zlib.crc32(part, checksum)
        left -= len(part)
    return b"whysgd crc32 %08x\n" % checksum


def refused(path: Path, why: str) -> UserError:
    """The error that names a store and what is wrong with it."""
    return UserError(f"{path}: {why}; remove it to build it again")


class Store:
    """See `open_store`.

    Attributes:
        meta: what b"meta" has, see `META`.
        copies, images: how many copies, and images in each.
        shape: of one image, (C, H, W).
        classes: names.
        labels: (images,) int64, the same for each copy.
    """

    def __init__(self, path: Path):
        self.path = path
        try:
            environment = lmdb_library().open(str(path), subdir=False, readonly=True, lock=False, max_spare_txns=1)
            # LMDB maps the file into memory: a page behind its end would end the process.
            expected = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"] + TRAILER_BYTES
            if (size := path.stat().st_size) != expected:
                raise ValueError(f"it has {size} bytes and should have {expected}")
            self.transaction = environment.begin(buffers=True)
            self.meta = json.loads(bytes(self.transaction.get(b"meta", b"")))
            labels = np.frombuffer(self.transaction.get(b"labels", b""), "<i8")
        except (lmdb_library().Error, ValueError) as error:
            raise refused(path, f"not a readable store ({error})") from None
        if self.meta.get("format") != FORMAT or any(key not in self.meta for key in META):
            raise refused(path, f"not a store of the format {FORMAT!r}")
        self.copies, self.images, self.classes = (self.meta[key] for key in ("copies", "images", "classes"))
        self.shape, self.labels = tuple(self.meta["shape"]), labels.astype(np.int64)
        self.image_bytes = int(np.prod(self.shape))
        if len(labels) != self.images:
            raise refused(path, "its labels are not those of its images")

    def __len__(self) -> int:
        return self.copies * self.images

    def read(self) -> np.ndarray:
        """All images (copies · images, C, H, W), in one sequential read."""
        images, size = np.empty((len(self), *self.shape), np.uint8), self.meta["chunk"]
        for start in range(0, len(self), size):
            images[start : start + size] = self._chunk(start // size)
        return images

    def take(self, numbers: np.ndarray) -> np.ndarray:
        """The images of these numbers (m,), in their order: (m, C, H, W)."""
        if len(outside := numbers[(numbers < 0) | (numbers >= len(self))]):
            raise IndexError(f"{self.path}: image {outside[0]} of {len(self)}")
        images = np.empty((len(numbers), *self.shape), np.uint8)
        which, within = np.divmod(numbers, self.meta["chunk"])
        # Each chunk is looked up once, whatever the order.
        order = np.argsort(which, kind="stable")
        borders = np.flatnonzero(np.diff(which[order], prepend=-1, append=-1))
        for start, end in pairwise(borders):
            group = order[start:end]
            images[group] = self._chunk(int(which[group[0]]))[within[group]]
        return images

    def _chunk(self, number: int) -> np.ndarray:
        """Images of a chunk (m, C, H, W), as a view of the file."""
        return np.frombuffer(self.transaction.get(b"images/%08d" % number), np.uint8).reshape(-1, *self.shape)


# LMDB refuses to open a file twice in one process; a store is closed when nobody holds it any more.
_OPEN: WeakValueDictionary[tuple, Store] = WeakValueDictionary()


def lmdb_library():
    """The library, which only runs on stored copies need."""
    try:
        import lmdb
    except ImportError:
        raise UserError("stored copies need the package lmdb, which is not installed") from None
    return lmdb
