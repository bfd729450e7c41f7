"""What a data set is like, as far as it can be known before it is built; nothing here imports numpy."""

import unicodedata
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from whysgd.data.catalog import BUILT_IN
from whysgd.errors import UserError
from whysgd.files import read_json
from whysgd.results.paths import dataset_folder

MB = 2**20
# Pillow's modes with 8 bits or less in each channel; the first become grey images, all others RGB.
GREY = ("1", "L", "LA")
MODES = (*GREY, "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")


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
    return _folder_images(dataset, own["path"], own["train_images"], own["test_images"])


def class_folders(split: Path) -> dict[str, Path]:
    """Return the class folders of a split of an image folder by their names in NFC, in order; hidden ones are not.

    A Mac writes names in NFD, others in NFC: the same letters in other bytes.

    Raises:
        UserError: there is none, two have the same name, or a name is not in UTF-8.
    """
    if not split.is_dir():
        raise UserError(f"{split}: no such folder; expected one folder for each class in it")
    found: dict[str, Path] = {}
    for folder in sorted(entry for entry in split.iterdir() if entry.is_dir() and not entry.name.startswith(".")):
        name = unicodedata.normalize("NFC", folder.name)
        if not name.isprintable():
            raise UserError(f"{split}: the folder {folder.name!a} must have a name of printable letters in UTF-8")
        if name in found:
            raise UserError(f"{split}: two folders are called {name!r}, in other bytes; rename one of them")
        found[name] = folder
    if not found:
        raise UserError(f"{split}: holds no class; expected one folder for each class in it")
    return dict(sorted(found.items()))


def read_image(file: Path):
    """Return an image of a file as viewers show it: turned as its EXIF says, what is transparent on white; L or RGB.

    Raises:
        UserError: it is not readable, or has more than 8 bits.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(file) as opened:
            mode, image = opened.mode, ImageOps.exif_transpose(opened)
            if image.has_transparency_data and mode in MODES:
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
            image = image.convert("L" if mode in GREY else "RGB")
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError and others for damaged files
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{file}: not a readable image ({why})") from None
    if mode not in MODES:
        # Pillow would clip 16-bit grey values to 255.
        raise UserError(f"{file}: has mode {mode}; allowed: {', '.join(MODES)}")
    return image


@cache
def _folder_images(dataset: str, path: str, *most: int | None) -> Images:
    """Count the files of an image folder, and look at one."""
    splits = [sorted(Path(path, split).glob("*/[!.]*")) for split in ("train", "test")]
    if not splits[0]:
        raise UserError(f"datasets.{dataset}.path = {path!r}: no images in {path}/train/<class>/")
    image = read_image(splits[0][0])
    counts = [min(len(files), limit or len(files)) for files, limit in zip(splits, most, strict=True)]
    return Images(*counts, len(image.getbands()), image.size[1], len({file.parent for file in splits[0]}))
