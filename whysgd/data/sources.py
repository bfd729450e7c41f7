"""Where images come from: each source returns two splits as uint8 arrays and the class names."""

import gzip
import hashlib
import os
import tarfile
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from whysgd.data.canonical import Split
from whysgd.data.shape import class_folders, read_image
from whysgd.errors import UserError
from whysgd.files import locked, write_atomically
from whysgd.streams import stream

# The order of digits and of image folders is one fixed permutation, and part of the data set.
ORDER_SEED = 0
DIGITS_TRAIN = 512


@dataclass(frozen=True)
class Source:
    """What a source delivers: both splits, the class names in the order of their numbers, its origin."""

    train: Split
    test: Split
    classes: list[str]
    origin: str


def load_digits() -> Source:
    """scikit-learn's 1,797 digits of 8×8, split into 512 for training and 1,285 for testing.

    The original values 0 to 16 are scaled to 0 to 255 (rounded). The split is a fixed permutation.
    """
    from sklearn.datasets import load_digits as load

    digits = load()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[:, None]
    order = stream(ORDER_SEED, "digits split").permutation(len(images))
    parts = order[:DIGITS_TRAIN], order[DIGITS_TRAIN:]
    train, test = (Split(images[part], digits.target[part].astype(np.int64)) for part in parts)
    return Source(train, test, [str(name) for name in digits.target_names], "scikit-learn load_digits")


def load_torchvision(name: str, folder: Path) -> Source:
    """Return CIFAR-10, CIFAR-100, MNIST or Fashion-MNIST, downloaded once and checked by torchvision.

    Args:
        name: cifar10, cifar100, mnist or fashion_mnist.
        folder: where the downloaded files lie; a lock in it lets one job at a time download.

    Raises:
        UserError: the files are neither there nor to be had, or are damaged; says where to put them.
    """
    from torchvision import datasets

    classes = {
        "cifar10": datasets.CIFAR10,
        "cifar100": datasets.CIFAR100,
        "mnist": datasets.MNIST,
        "fashion_mnist": datasets.FashionMNIST,
    }
    expected = {
        "cifar10": "cifar-10-python.tar.gz, or its unpacked folder cifar-10-batches-py",
        "cifar100": "cifar-100-python.tar.gz, or its unpacked folder cifar-100-python",
        "mnist": "MNIST/raw/ with the four idx files, e.g. train-images-idx3-ubyte",
        "fashion_mnist": "FashionMNIST/raw/ with the four idx files, e.g. train-images-idx3-ubyte",
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / f".{name}.lock"):
            if cifar := name.startswith("cifar"):
                _unpack_cifar(classes[name], folder)
            else:
                _remove_half_extracted(folder / classes[name].__name__ / "raw", classes[name].resources)
            # torchvision never unpacks a tar archive: it would write wherever the archive says.
            parts = [classes[name](str(folder), train=train, download=not cifar) for train in (True, False)]
    except Exception as error:  # torchvision raises whatever its download met: URLError, RuntimeError, EOFError …
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"{name}: cannot be downloaded or is damaged ({reason}); put {expected[name]} into {folder.resolve()},"
            " in place of what is there of it"
        ) from None
    train, test = (Split(_channels_first(part.data), np.asarray(part.targets, np.int64)) for part in parts)
    return Source(train, test, list(parts[0].classes), f"torchvision {name}")


@contextmanager
def _locked(file: Path):
    """Hold a lock; none in a folder that cannot be written, where nobody changes what is read."""
    with ExitStack() as held:
        with suppress(OSError):
            held.enter_context(locked(file))
        yield


def _unpack_cifar(published: type, folder: Path) -> None:
    """Write CIFAR's published files into the folder, from an archive that is downloaded if it is not there.

    Only regular members with the names of published files are read. Nothing else in an archive (paths upwards, links,
    devices) has an effect. This needs none of tarfile's extraction filters, which came with Python 3.11.4.

    Args:
        published: torchvision's class, which has the names and checksums of the archive and of its files.
        folder: where the archive lies, and where the folder of files goes.

    Raises:
        UserError: a published file is missing in the archive, or is a link, a device or a folder there.
    """
    from torchvision.datasets.utils import check_integrity, download_url

    sums = [*published.train_list, *published.test_list, (published.meta["filename"], published.meta["md5"])]
    files = {f"{published.base_folder}/{name}": md5 for name, md5 in sums}
    if all(check_integrity(folder / name, md5) for name, md5 in files.items()):
        return
    download_url(published.url, folder, published.filename, published.tgz_md5)
    with tarfile.open(folder / published.filename) as archive:
        members = {member.name: member for member in archive if member.isreg()}
        for name in files:
            if name not in members:
                raise UserError(f"{published.filename} has no file {name}")
            content = archive.extractfile(members[name]).read()
            write_atomically(folder / name, lambda temporary, content=content: temporary.write_bytes(content))


def _remove_half_extracted(folder: Path, resources: list[tuple[str, str]]) -> None:
    """Remove files that differ from their archive's content, so that torchvision unpacks them again.

    torchvision only asks whether a file is there; after an interrupted unpacking, half of it may be.

    Args:
        folder: where archives and files lie.
        resources: name and MD5 of each archive.
    """
    for name, md5 in resources:
        archive, file = folder / name, folder / Path(name).stem
        if not (archive.is_file() and file.is_file()):
            continue
        if hashlib.md5(archive.read_bytes(), usedforsecurity=False).hexdigest() != md5:
            archive.unlink()  # half of a download
        elif gzip.decompress(archive.read_bytes()) != file.read_bytes():
            file.unlink()


def first_of_each_class(split: Split, images: int) -> Split:
    """Return the first images of each class, equally many, in the order of the split."""
    each = images // len(np.unique(split.labels))
    ranks = np.empty(len(split.labels), int)
    for label in np.unique(split.labels):
        own = split.labels == label
        ranks[own] = np.arange(own.sum())
    return Split(split.images[ranks < each], split.labels[ranks < each])


def _channels_first(images) -> np.ndarray:
    images = np.asarray(images)
    return images[:, None] if images.ndim == 3 else np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def load_image_folder(folder: Path, train_images: int | None = None, test_images: int | None = None) -> Source:
    """A folder with train/<class>/ and test/<class>/, all images of one size.

    The folders are sorted by class, so the order of each split is a fixed permutation: otherwise a
    micro-batch in data-set order would hold one class. All images become grey if all files are, else RGB; they are
    turned as their EXIF says, and what is transparent lies on white.

    Args:
        folder: has `train` and `test`, each with one folder for each class.
        train_images, test_images: take the first so many of the permutation; None takes all.

    Raises:
        UserError: a missing or empty class, a class in one split only, a file that is no image or
            is truncated, or another size than the first image's; the message names folder or file.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected train/<class>/ and test/<class>/ in it")
    classes = {split: class_folders(folder / split) for split in ("train", "test")}
    for split, other in (("train", "test"), ("test", "train")):
        for name, place in classes[split].items():
            if name not in classes[other]:
                raise UserError(f"{place}: class {name!r} is missing in {folder / other}")
    size: dict = {}
    train, test = (
        _read_split(split, list(classes[split].values()), limit, size)
        for split, limit in (("train", train_images), ("test", test_images))
    )
    if train.images.shape[1] != test.images.shape[1]:
        train, test = (Split(_to_rgb(part.images), part.labels) for part in (train, test))
    return Source(train, test, list(classes["train"]), f"image folder {folder.name}")


def _read_split(split: str, folders: list[Path], limit: int | None, size: dict) -> Split:
    files, labels = [], []
    for label, folder in enumerate(folders):
        found = sorted(Path(entry.path) for entry in os.scandir(folder) if not entry.name.startswith("."))
        if not found:
            raise UserError(f"{folder}: holds no image")
        files += found
        labels += [label] * len(found)
    order = stream(ORDER_SEED, f"image folder {split}").permutation(len(files))[:limit]
    images = [_read_image(files[index], size) for index in order]
    if any(image.ndim == 3 for image in images):
        images = [image if image.ndim == 3 else np.stack([image] * 3) for image in images]
    stacked = np.stack(images)
    return Split(stacked if stacked.ndim == 4 else stacked[:, None], np.asarray(labels, np.int64)[order])


def _read_image(file: Path, size: dict) -> np.ndarray:
    array = np.asarray(read_image(file))
    first = size.setdefault("first", (file, array.shape[:2]))
    if array.shape[:2] != first[1]:
        height, width = array.shape[:2]
        raise UserError(
            f"{file}: is {width}×{height}, but {first[0]} is {first[1][1]}×{first[1][0]}; all images must have one size"
        )
    return array if array.ndim == 2 else array.transpose(2, 0, 1)


def _to_rgb(images: np.ndarray) -> np.ndarray:
    return images if images.shape[1] == 3 else np.repeat(images, 3, axis=1)
