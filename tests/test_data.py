import hashlib
import os
import pickle
import shutil
import struct
import tarfile

import numpy as np
import pytest
from conftest import flip_a_bit, one_line, write_images
from PIL import Image
from torchvision import datasets as tv

from whysgd.data.build import build_dataset, channel_statistics
from whysgd.data.canonical import load_dataset
from whysgd.data.catalog import BUILT_IN
from whysgd.data.sources import load_digits, load_image_folder, load_torchvision


def test_digits_are_scikit_learns_split_once_for_all():
    from sklearn.datasets import load_digits as original

    source, digits = load_digits(), original()
    assert source.train.images.shape == (512, 1, 8, 8)
    assert source.test.images.shape == (1285, 1, 8, 8)
    both = np.concatenate([source.train.images, source.test.images])[:, 0]
    labels = np.concatenate([source.train.labels, source.test.labels])
    found = sorted((image.tobytes(), label) for image, label in zip(both, labels, strict=True))
    expected = np.rint(digits.images * 255 / 16).astype(np.uint8)
    assert found == sorted((image.tobytes(), label) for image, label in zip(expected, digits.target, strict=True))
    assert np.bincount(source.train.labels).min() > 35


def test_a_data_set_is_written_read_back_and_described(tmp_path):
    manifest = build_dataset("digits", None, tmp_path, tmp_path)
    dataset = load_dataset(tmp_path)
    assert dataset.manifest == manifest
    assert (manifest["train_images"], manifest["test_images"], manifest["shape"]) == (512, 1285, [1, 8, 8])
    assert manifest["classes"] == list("0123456789")
    assert sum(manifest["class_counts"]["train"]) == 512
    pixels = dataset.train.images.astype(np.float64) / 255
    assert manifest["mean"] == pytest.approx([pixels.mean()], rel=1e-12)
    assert manifest["std"] == pytest.approx([pixels.std()], rel=1e-12)
    again = build_dataset("digits", None, tmp_path, tmp_path / "again")
    assert again["sha256"] == manifest["sha256"]


def test_statistics_of_each_channel():
    images = np.random.default_rng(0).integers(0, 256, (7, 3, 5, 4)).astype(np.uint8)
    statistics = channel_statistics(images)
    assert statistics["mean"] == pytest.approx((images / 255).mean((0, 2, 3)), rel=1e-12)
    assert statistics["std"] == pytest.approx((images / 255).std((0, 2, 3)), rel=1e-12)


DAMAGES = {
    "bit": lambda file: flip_a_bit(file, -9000),
    "cut": lambda file: os.truncate(file, file.stat().st_size - 100),
    "gone": lambda file: file.unlink(),
    "manifest": lambda file: file.with_name("manifest.json").write_text("{"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_data_set_is_refused_with_its_name(tmp_path, damage):
    build_dataset("digits", None, tmp_path, tmp_path)
    damage(tmp_path / "train.safetensors")
    with one_line(str(tmp_path)):
        load_dataset(tmp_path)


@pytest.fixture
def folder(tmp_path):
    """An image folder of two classes; a pixel's value tells the class and number of its image."""
    return write_images(tmp_path / "images", ("cat", "dog"), lambda label, i: np.full((4, 5, 3), 100 * label + i), 6, 3)


def test_an_image_folder_becomes_a_fixed_permutation(folder):
    source = load_image_folder(folder)
    assert source.classes == ["cat", "dog"]
    assert source.train.images.shape == (12, 3, 4, 5)
    values = source.train.images[:, 0, 0, 0]
    assert (values // 100 == source.train.labels).all()
    assert sorted(values.tolist()) == [*range(6), *range(100, 106)]
    # Sorted by class, the first block would hold one class.
    assert len(set(source.train.labels[:6].tolist())) == 2
    again = load_image_folder(folder)
    assert (again.train.images == source.train.images).all()
    part = load_image_folder(folder, train_images=4, test_images=2)
    assert (part.train.images == source.train.images[:4]).all()
    assert len(part.test.labels) == 2


def test_grey_stays_grey_and_mixed_becomes_rgb(folder):
    for file in folder.glob("*/*/*.png"):
        Image.open(file).convert("L").save(file)
    assert load_image_folder(folder).train.images.shape == (12, 1, 4, 5)
    colour = folder / "train/cat/0000.png"
    Image.open(colour).convert("RGB").save(colour)
    source = load_image_folder(folder)
    assert source.train.images.shape == (12, 3, 4, 5)
    assert source.test.images.shape == (6, 3, 4, 5)


DOG = "train/dog/0003.png"
WRONG = {
    "truncated": (lambda folder: os.truncate(folder / DOG, 50), f"{DOG}: not a readable image"),
    "no image": (lambda folder: (folder / DOG).write_text("hello"), f"{DOG}: not a readable image"),
    "size": (lambda folder: Image.new("RGB", (9, 9)).save(folder / DOG), rf"{DOG}: is 9×9, but .*train/\w+/\d+.png is 5×4; all images must have one size"),
    # They are not clipped.
    "16 bits": (lambda folder: Image.fromarray(np.full((4, 5), 60_000, np.uint16)).save(folder / DOG), f"{DOG}: has mode I;16; allowed: 1, L, "),
    "empty class": (lambda folder: [image.unlink() for image in folder.glob("test/cat/*")], "test/cat: holds no image"),
    "one split": (lambda folder: (folder / "test/bird").mkdir(), "test/bird: class 'bird' is missing in .*train"),
    "no split": (lambda folder: (folder / "test").rename(folder / "tset"), "test: no such folder; expected one folder for each class"),
    "no classes": (lambda folder: [shutil.rmtree(place) for place in folder.glob("train/*")], "train: holds no class"),
}  # fmt: skip


@pytest.mark.parametrize(("spoil", "message"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_with_an_image_folder_is_named(folder, spoil, message):
    spoil(folder)
    with one_line(message):
        load_image_folder(folder)


def test_hidden_files_are_passed_over(folder):
    (folder / "train/.DS_Store").write_text("x")
    (folder / "train/cat/.hidden.png").write_text("x")
    assert len(load_image_folder(folder).train.labels) == 12


def test_a_folder_that_is_not_there(tmp_path):
    own = {"path": str(tmp_path / "no"), "label": None, "train_images": None, "test_images": None}
    with one_line(r"no: no such folder; expected train/<class>/ and test/<class>/"):
        build_dataset("mine", own, tmp_path, tmp_path / "out")


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def mnist_files() -> dict[str, bytes]:
    """The four files of a small MNIST, by name."""
    random, files = np.random.default_rng(0), {}
    for prefix, count in (("train", 30), ("t10k", 20)):
        files[f"{prefix}-images-idx3-ubyte"] = idx(random.integers(0, 256, (count, 28, 28)).astype(np.uint8))
        files[f"{prefix}-labels-idx1-ubyte"] = idx((np.arange(count) % 10).astype(np.uint8))
    return files


@pytest.mark.parametrize(("name", "place"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")])
def test_mnist_is_read_from_files_that_are_there(tmp_path, name, place):
    raw = tmp_path / place / "raw"
    raw.mkdir(parents=True)
    for file, content in mnist_files().items():
        (raw / file).write_bytes(content)
    source = load_torchvision(name, tmp_path)
    for part, prefix in ((source.train, "train"), (source.test, "t10k")):
        pixels = np.frombuffer(mnist_files()[f"{prefix}-images-idx3-ubyte"][16:], np.uint8)
        assert (part.images == pixels.reshape(-1, 1, 28, 28)).all()
    # Files put there by hand are held against what the name promises.
    with one_line(rf"{name} has \(30, 20\) images there, not \(60000, 10000\)"):
        build_dataset(name, None, tmp_path, tmp_path / "out")
    assert source.test.labels.tolist() == [i % 10 for i in range(20)]
    assert len(source.classes) == 10


def test_a_built_in_data_set_must_have_its_published_content(tmp_path, monkeypatch):
    monkeypatch.setitem(BUILT_IN, "digits", {**BUILT_IN["digits"], "sha256": "0" * 64})
    with one_line("digits there is not the published data set"):
        build_dataset("digits", None, tmp_path, tmp_path / "out")


@pytest.fixture
def cifar_archive(tmp_path, monkeypatch):
    """A tiny archive in CIFAR-10's layout, with its own checksums put into torchvision's class."""
    pixels = np.random.default_rng(0).integers(0, 256, (6, 3072)).astype(np.uint8)
    base = tmp_path / "make" / tv.CIFAR10.base_folder
    base.mkdir(parents=True)
    sums = {}
    for i, name in enumerate([*(f"data_batch_{b}" for b in range(1, 6)), "test_batch"]):
        (base / name).write_bytes(pickle.dumps({"data": pixels[i : i + 1], "labels": [i]}))
        sums[name] = hashlib.md5((base / name).read_bytes()).hexdigest()
    (base / "batches.meta").write_bytes(pickle.dumps({"label_names": [f"class{i}" for i in range(10)]}))
    monkeypatch.setattr(tv.CIFAR10, "train_list", [[n, s] for n, s in sums.items() if "data" in n])
    monkeypatch.setattr(tv.CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    meta = hashlib.md5((base / "batches.meta").read_bytes()).hexdigest()
    monkeypatch.setattr(tv.CIFAR10, "meta", {**tv.CIFAR10.meta, "md5": meta})
    place = tmp_path / "downloads"
    place.mkdir()
    archive = place / tv.CIFAR10.filename
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(base, tv.CIFAR10.base_folder)
    monkeypatch.setattr(tv.CIFAR10, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    # Nothing listens there: a machine without a network.
    monkeypatch.setattr(tv.CIFAR10, "url", "http://127.0.0.1:9/cifar-10-python.tar.gz")
    return archive, pixels


def test_cifar_is_unpacked_from_an_archive_that_is_there(cifar_archive):
    archive, pixels = cifar_archive
    source = load_torchvision("cifar10", archive.parent)
    assert (source.train.images == pixels[:5].reshape(5, 3, 32, 32)).all()
    assert source.train.labels.tolist() == [0, 1, 2, 3, 4]
    assert source.test.labels.tolist() == [5]


@pytest.mark.parametrize("content", [None, b"half a download"])
def test_an_offline_machine_is_told_where_to_put_the_files(cifar_archive, content):
    archive, _ = cifar_archive
    archive.unlink()
    if content:
        archive.write_bytes(content)
    with one_line(f"cifar10: .*put cifar-10-python.tar.gz.* into {archive.parent}"):
        load_torchvision("cifar10", archive.parent)
