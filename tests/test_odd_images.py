"""Image folders as people have them: turned, transparent, constant, with names in other bytes, replaced in place."""

import os
import unicodedata

import numpy as np
import pytest
from conftest import ROOT, one_line, write_images
from miniature import TINY
from PIL import Image

from whysgd.data.augmentation import Normalizer
from whysgd.data.build import build_dataset
from whysgd.data.shape import _folder_images
from whysgd.data.sources import load_image_folder
from whysgd.study.config import validate_config
from whysgd.study.workflow import Study

SQUARE = np.zeros((8, 8), np.uint8)
SQUARE[2:5, 3:7] = 255
RAMP = np.arange(12 * 16, dtype=np.uint8).reshape(12, 16)
TURNED = 0x0112  # EXIF's key of the orientation


def rgba(colour, alpha):
    return Image.fromarray(np.dstack([np.full((*alpha.shape, 3), colour, np.uint8), alpha]))


def grey_alpha(level, alpha):
    return Image.merge("LA", [Image.new("L", alpha.shape[::-1], level), Image.fromarray(alpha)])


def palette(alpha):
    """A palette of two reds, the first of them transparent."""
    image = Image.fromarray((alpha > 0).astype(np.uint8)).convert("P")
    image.putpalette([255, 0, 0, 200, 0, 0])
    image.info["transparency"] = 0
    return image


def oriented(array, orientation):
    image = Image.fromarray(array)
    image.getexif()[TURNED] = orientation
    return image


OVER_WHITE = 255 - SQUARE
# What is saved, and the pixels (C, H, W) that are read.
SHOWN = {
    "black, seen by its alpha alone": (rgba(0, SQUARE), np.stack([OVER_WHITE] * 3)),
    "half transparent": (rgba(100, np.full((8, 8), 51, np.uint8)), np.full((3, 8, 8), 100 * 0.2 + 255 * 0.8)),
    "opaque": (rgba(100, np.full((8, 8), 255, np.uint8)), np.full((3, 8, 8), 100)),
    "grey with alpha": (grey_alpha(0, SQUARE), OVER_WHITE[None]),
    "a transparent colour of a palette": (palette(SQUARE), np.stack([255 - SQUARE // 255 * 55, OVER_WHITE, OVER_WHITE])),
    "turned": (oriented(RAMP, 6), np.rot90(RAMP, -1)[None]),
    "upside down": (oriented(RAMP, 3), RAMP[::-1, ::-1][None]),
    "mirrored": (oriented(RAMP, 2), RAMP[:, ::-1][None]),
    "as it is": (oriented(RAMP, 1), RAMP[None]),
}  # fmt: skip


def save(folder, split, name, image):
    place = folder / split / name
    place.mkdir(parents=True, exist_ok=True)
    exif = {"exif": image.getexif()} if image.getexif() else {}
    image.save(place / "0.png", **exif)


@pytest.mark.parametrize(("image", "pixels"), SHOWN.values(), ids=SHOWN.keys())
def test_images_are_read_as_viewers_show_them(tmp_path, image, pixels):
    for split in ("train", "test"):
        save(tmp_path, split, "a", image)
    source = load_image_folder(tmp_path)
    for part in (source.train, source.test):
        assert part.images.shape == (1, *pixels.shape)
        np.testing.assert_allclose(part.images[0], pixels, atol=0.5)
    known = _folder_images("mine", str(tmp_path), None, None)
    assert (known.channels, known.size) == pixels.shape[:2]


def test_a_turned_photo_has_the_size_of_one_that_was_taken_upright(tmp_path):
    for split in ("train", "test"):
        save(tmp_path, split, "a", oriented(RAMP, 6))
        save(tmp_path, split, "b", Image.fromarray(np.rot90(RAMP, -1).copy()))
    images = load_image_folder(tmp_path).train.images
    assert images.shape == (2, 1, 16, 12)
    assert (images[0] == images[1]).all()


@pytest.mark.parametrize("blue", [0, 77, 255])
def test_a_channel_that_is_constant_in_training_is_not_divided_by_0(tmp_path, capsys, blue):
    random = np.random.default_rng(0)
    folder, is_blue = tmp_path / "images", np.arange(3) == 2
    write_images(folder, "ab", lambda *_: np.where(is_blue, blue, random.integers(0, 256, (8, 8, 3))), 1, 1)
    own = {"path": str(folder), "label": None, "train_images": None, "test_images": None}
    manifest = build_dataset("mine", own, tmp_path, tmp_path / "built")
    assert manifest["std"][2] == 1
    assert all(0 < std < 0.5 for std in manifest["std"][:2])
    assert "warning: mine: constant in training: channel 2; its std counts as 1" in capsys.readouterr().out
    import torch

    images = torch.from_numpy(load_image_folder(folder).train.images)
    normalized = Normalizer(manifest["mean"], manifest["std"])(images)
    assert normalized.isfinite().all()
    assert normalized[:, 2].abs().max() < 1e-4


COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "Zürich é") for form in ("NFC", "NFD"))
# Folders of train/ and test/, and what the line says.
NAMES = {
    "in other bytes": ([COMPOSED], [DECOMPOSED], None),
    "twice": ([COMPOSED, DECOMPOSED], [COMPOSED], "train: two folders are called 'Zürich é', in other bytes"),
    "Latin-1": ([os.fsdecode(b"Z\xfcrich")], ["a"], r"train: the folder 'Z\\udcfcrich' must have a name of printable letters"),
    "a line break": (["a\nb"], ["a\nb"], r"train: the folder 'a\\nb' must have a name of printable letters"),
    "one that is missing": (["a", COMPOSED], ["a"], "Zürich é: class 'Zürich é' is missing in .*test"),
}  # fmt: skip


@pytest.mark.parametrize(("train", "test", "message"), NAMES.values(), ids=NAMES.keys())
def test_names_of_classes_are_compared_as_letters(tmp_path, train, test, message):
    for split, names in (("train", train), ("test", test)):
        for name in names:
            save(tmp_path, split, name, Image.fromarray(SQUARE))
    if message is None:
        assert load_image_folder(tmp_path).classes == [COMPOSED]
        return
    with one_line(message) as caught:
        load_image_folder(tmp_path)
    str(caught.value).encode()


@pytest.fixture
def built(tmp_path):
    """Two classes of two files each, and a function that returns what the rule build_dataset depends on."""
    random = np.random.default_rng(0)
    images = tmp_path / "images"
    write_images(images, "ab", lambda *_: random.integers(0, 256, (8, 8), dtype=np.uint8), 2, 2, "{}.bmp")
    for file in images.glob("*/*/*"):
        os.utime(file, (1e9, 1e9))

    def state():
        config = {**TINY, "datasets": {"mine": {"source": "image_folder", "path": str(images)}}}
        study = Study(validate_config(config, [ROOT / "config.yaml"]))
        folders = {folder: os.stat(folder).st_mtime_ns for folder in study.class_folders("mine")}
        return study.class_files("mine"), folders

    return images, state


def overwrite(folder):
    for file in (folder / "train/a").iterdir():
        file.write_bytes(file.read_bytes()[::-1])


def swap(folder):
    """Swap two classes whose files have the same names, sizes and times."""
    (folder / "train/a").rename(folder / "train/c")
    (folder / "train/b").rename(folder / "train/a")
    (folder / "train/c").rename(folder / "train/b")


def keep_the_time(folder):
    (folder / "test/b/1.bmp").write_bytes(b"longer" * 500)
    os.utime(folder / "test/b/1.bmp", (1e9, 1e9))


CHANGES = {
    "every file of a class overwritten": overwrite,
    "two classes swapped": swap,
    "another size and the same time": keep_the_time,
    "a file added": lambda folder: (folder / "train/a/2.bmp").write_bytes(b""),
    "a file removed": lambda folder: (folder / "test/a/0.bmp").unlink(),
    "a class added": lambda folder: (folder / "train/c").mkdir(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_replaced_images_are_another_input(built, change):
    folder, state = built
    before = state()
    assert state() == before
    change(folder)
    assert state() != before
