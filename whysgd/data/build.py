"""Building the canonical form of a data set from its source."""

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from whysgd.config import BUILT_IN, dataset_label
from whysgd.data.canonical import MANIFEST, content_digest
from whysgd.data.sources import Source, load_digits, load_image_folder, load_torchvision
from whysgd.errors import UserError
from whysgd.files import write_atomically, write_json


def build_dataset(name: str, config: dict, folder: Path) -> dict:
    """Bring a data set into its canonical form; returns the manifest.

    Args:
        name: a built-in name or an entry of the configuration's `datasets`.
        config: a validated configuration (`datasets` and `data_dir` are read).
        folder: where the files go; the manifest is written last, so a half-built set has none.

    Raises:
        UserError: the source is missing or damaged; the message names the file.
    """
    source = _load_source(name, config)
    for split, part in (("train", source.train), ("test", source.test)):
        arrays = {"images": np.ascontiguousarray(part.images), "labels": part.labels}
        write_atomically(folder / f"{split}.safetensors", lambda path, arrays=arrays: save_file(arrays, path))
    manifest = {
        "name": name,
        "label": dataset_label(config, name),
        "origin": source.origin,
        "sha256": content_digest(source.train, source.test),
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
    write_json(folder / MANIFEST, manifest)
    return manifest


def _load_source(name: str, config: dict) -> Source:
    if name in config["datasets"]:
        own = config["datasets"][name]
        return load_image_folder(Path(own["path"]), own["train_images"], own["test_images"])
    if name == "digits":
        return load_digits()
    if name in BUILT_IN:
        return load_torchvision(name, Path(config["data_dir"]))
    raise UserError(f"config: datasets: no data set {name!r}; allowed: {', '.join([*BUILT_IN, *config['datasets']])}")


def channel_statistics(images: np.ndarray) -> dict:
    """Per-channel mean and standard deviation on the scale 0 to 1, computed exactly from a histogram.

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
        std.append(variance**0.5)
    return {"mean": mean, "std": std}
