"""The canonical form of a data set on disk: two safetensors files and a manifest.

<folder>/train.safetensors, test.safetensors    images (n, C, H, W) uint8, labels (n,) int64
<folder>/manifest.json                          origin, sha256, counts, classes, shape, mean, std
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from whysgd.errors import UserError
from whysgd.files import read_json

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Split:
    """Images (n, channels, height, width) as uint8 and their classes (n,) as int64."""

    images: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Dataset:
    """A data set in memory, with its manifest."""

    train: Split
    test: Split
    manifest: dict


def load_dataset(folder: str | Path) -> Dataset:
    """Read a data set in canonical form and compare its content with the manifest's sha256.

    Args:
        folder: what `whysgd.data.build.build_dataset` filled.

    Raises:
        UserError: a file is missing, cut short or altered; the message names it.
    """
    folder = Path(folder)
    if not (folder / MANIFEST).is_file():
        raise UserError(f"{folder}: no data set there; make one with `whysgd build-dataset {folder.name}`")
    manifest = read_json(folder / MANIFEST)
    train, test = (_read_split(folder / f"{split}.safetensors") for split in ("train", "test"))
    if content_digest(train, test) != manifest.get("sha256"):
        raise UserError(f"{folder}: the images are not those of {MANIFEST}; remove the folder to build it again")
    return Dataset(train, test, manifest)


def _read_split(file: Path) -> Split:
    try:
        arrays = load_file(file)
        return Split(arrays["images"], arrays["labels"])
    except (OSError, KeyError, SafetensorError) as error:
        raise UserError(f"{file}: not a readable data set ({error}); remove the folder to build it again") from None


def content_digest(*splits: Split) -> str:
    """sha256 over shapes, images and labels of the splits, in order."""
    digest = hashlib.sha256()
    for split in splits:
        digest.update(repr(split.images.shape).encode())
        digest.update(np.ascontiguousarray(split.images).data)
        digest.update(np.ascontiguousarray(split.labels).data)
    return digest.hexdigest()
