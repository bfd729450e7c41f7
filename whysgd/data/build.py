"""Building the canonical form of a data set from its source."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from whysgd.data.canonical import MANIFEST, content_digest
from whysgd.data.catalog import BUILT_IN
from whysgd.data.sources import Source, first_of_each_class, load_digits, load_image_folder, load_torchvision
from whysgd.errors import UserError, nearest
from whysgd.files import write_atomically, write_json


def build_dataset(name: str, own: dict | None, data_dir: Path, folder: Path) -> dict:
    """Bring a data set into its canonical form; returns the manifest.

    Args:
        name: a built-in name, or that of an image folder.
        own: the image folder's entry of the configuration's `datasets`; None for a built-in one.
        data_dir: where downloaded originals lie.
        folder: where the files go; the manifest is written last, so a half-built set has none.

    Raises:
        UserError: the source is missing or damaged, or not what a built-in name promises; names the file.
    """
    source = _load_source(name, own, data_dir)
    sha256 = content_digest(source.train, source.test)
    if own is None:
        _check_promises(name, source, sha256, data_dir)
    for split, part in (("train", source.train), ("test", source.test)):
        arrays = {"images": np.ascontiguousarray(part.images), "labels": part.labels}
        write_atomically(folder / f"{split}.safetensors", lambda path, arrays=arrays: save_file(arrays, path))
    manifest = {
        "name": name,
        "label": (own["label"] or name) if own else BUILT_IN[name]["label"],
        "origin": source.origin,
        "sha256": sha256,
        "train_images": len(source.train.labels),
        "test_images": len(source.test.labels),
        "shape": list(source.train.images.shape[1:]),
        "classes": source.classes,
        "class_counts": {
            split: np.bincount(part.labels, minlength=len(source.classes)).tolist()
            for split, part in (("train", source.train), ("test", source.test))
        },
        **channel_statistics(source.train.images),
    }
    constant = [channel for channel, std in enumerate(manifest["std"]) if std == 1.0]
    if constant:
        print(f"warning: {name}: constant in training: channel {', '.join(map(str, constant))}; its std counts as 1")
    write_json(folder / MANIFEST, manifest)
    return manifest


def _load_source(name: str, own: dict | None, data_dir: Path) -> Source:
    if own is not None:
        return load_image_folder(Path(own["path"]), own["train_images"], own["test_images"])
    if name not in BUILT_IN:
        allowed = f"{', '.join(BUILT_IN)} and those of `datasets`{nearest(name, BUILT_IN)}"
        raise UserError(f"{name!r}: no such data set; allowed: {allowed}")
    if name == "digits":
        return load_digits()
    known = BUILT_IN[name]
    source = load_torchvision(known.get("of", name), data_dir)
    return replace(source, train=first_of_each_class(source.train, known["train"])) if "of" in known else source


def _check_promises(name: str, source: Source, sha256: str, data_dir: Path) -> None:
    """torchvision checks what it downloads, but not files that were put there by hand."""
    known, found = BUILT_IN[name], (len(source.train.labels), len(source.test.labels))
    if found != (known["train"], known["test"]):
        raise UserError(
            f"{data_dir}: {name} has {found} images there, not {(known['train'], known['test'])}; get it anew"
        )
    if sha256 != known.get("sha256", sha256):
        raise UserError(f"{data_dir}: {name} there is not the published data set (its sha256 differs); get it anew")


def channel_statistics(images: np.ndarray) -> dict:
    """Per-channel mean and standard deviation on the scale 0 to 1, computed exactly from a histogram.

    The standard deviation of a channel that is constant counts as 1, which nothing else can have: images are divided
    by it.

    Args:
        images: (n, C, H, W) uint8.
    """
    levels = np.arange(256) / 255
    mean, std = [], []
    for channel in range(images.shape[1]):
        counts = np.bincount(images[:, channel].ravel(), minlength=256)
        average = float(counts @ levels / counts.sum())
        variance = float(counts @ (levels - average) ** 2 / counts.sum())
        mean.append(average)
        std.append(variance**0.5 if np.count_nonzero(counts) > 1 else 1.0)
    return {"mean": mean, "std": std}
