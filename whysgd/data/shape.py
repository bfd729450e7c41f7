"""What a data set is like, as far as it can be known before it is built; nothing here imports numpy."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from whysgd.data.catalog import BUILT_IN
from whysgd.errors import UserError
from whysgd.files import read_json
from whysgd.results.paths import dataset_folder

MB = 2**20


class Images(NamedTuple):
    """A data set: images for training and for testing, channels, height and width, classes."""

    train: int
    test: int
    channels: int
    size: int
    classes: int

    @property
    def mb(self) -> float:
        """Megabytes of the canonical form: a byte for each channel of a pixel, and the labels."""
        return (self.train + self.test) * (self.channels * self.size**2 + 8) / MB


def images_of(config: Mapping, dataset: str) -> Images:
    """Return what a data set is like.

    Raises:
        UserError: it is an image folder without images.
    """
    if known := BUILT_IN.get(dataset):
        classes = 100 if dataset == "cifar100" else 10
        return Images(known["train"], known["test"], known["channels"], known["size"], classes)
    manifest = dataset_folder(dataset) / "manifest.json"
    if manifest.is_file():
        built = read_json(manifest)
        return Images(built["train_images"], built["test_images"], *built["shape"][:2], len(built["classes"]))
    own = config["datasets"][dataset]
    return _folder_images(own["path"], own["train_images"], own["test_images"])


@cache
def _folder_images(path: str, *most: int | None) -> Images:
    """Count the files of an image folder, and look at one."""
    from PIL import Image, UnidentifiedImageError

    splits = [sorted(Path(path, split).glob("*/[!.]*")) for split in ("train", "test")]
    if not splits[0]:
        raise UserError(f"{path}/train: no images; needs train/<class>/ and test/<class>/")
    try:
        with Image.open(splits[0][0]) as image:
            size, channels = image.size[1], 1 if image.mode in ("1", "L", "I", "I;16") else 3
    except (OSError, UnidentifiedImageError) as error:
        raise UserError(f"{splits[0][0]}: not a readable image ({error})") from None
    counts = [min(len(files), limit or len(files)) for files, limit in zip(splits, most, strict=True)]
    return Images(*counts, channels, size, len({file.parent for file in splits[0]}))
