"""Small worlds for the tests; nothing here needs a network or files from outside the repository."""

import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from filelock import FileLock
from PIL import Image
from safetensors.torch import save_file
from torchvision.transforms import functional as tv

from whysgd.__main__ import main
from whysgd.data.canonical import Dataset, Split, content_digest
from whysgd.errors import UserError
from whysgd.files import write_json
from whysgd.results.metrics import with_checksum
from whysgd.results.records import as_text
from whysgd.study import papers
from whysgd.study.config import load_config
from whysgd.study.papers import expand
from whysgd.study.registry import make
from whysgd.study.spec import Augmentation, RunSpec

ROOT = Path(__file__).resolve().parent.parent
torch.set_num_threads(1)
# Seconds after which a process counts as hung. Tests set no bounds on time: benchmarks/ measures that.
HUNG = 900


class Parsed(HTMLParser):
    """The tags of HTML, (name, value) of their attributes, and its texts."""

    def __init__(self, html: str):
        super().__init__()
        self.tags, self.attributes, self.texts = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes

    def handle_data(self, data):
        self.texts.append(data)


@contextmanager
def one_line(match: str = "", kind: type[Exception] = UserError):
    """Expect an error of one line that says this."""
    with pytest.raises(kind, match=match) as caught:
        yield caught
    assert "\n" not in str(caught.value), str(caught.value)


def error_of(capsys, *words) -> str:
    """The one line that a command of the package ends with, at exit code 1."""
    assert main([str(word) for word in words]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    return line


def flip_a_bit(file: Path, place: int) -> None:
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)


# The files that take longest, which begin first, so that both workers end at about the same time.
LONGEST = ["workflow", "ranks", "fault_workflow", "models", "recorded", "loop", "kills"]


def pytest_collection_modifyitems(items):
    places = {f"test_{name}": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(LONGEST)))


@pytest.fixture
def double():
    """Default to float64 within a test."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield torch.float64
    torch.set_default_dtype(before)


def make_spec(**changes) -> RunSpec:
    """A full-batch run with everything on, small enough for a test."""
    spec = RunSpec(
        paper="geiping2022", run="test", scale="mini", seed=3, dataset="tiny", model="resnet_mini",
        batch="all", micro_batch=5, epochs=4, lr=0.5, schedule=make("schedule", "cosine", unit="epoch", warmup=1.5, horizon=6.0),
        shuffle=True, drop_last=False, momentum=0.9, nesterov=True, weight_decay=5e-4,
        augment=Augmentation(crop_padding=1, flip=True), penalty=make("penalty", "gradient_norm"), clip=0.25, evaluations=4,
    )  # fmt: skip
    return spec.replace(**changes)


def with_seeds(spec: RunSpec, *seeds: int) -> list[RunSpec]:
    """The same run with each of these seeds."""
    return [spec.replace(seed=seed) for seed in seeds]


def sealed(record: dict) -> str:
    """The text of a record's file, with a checksum that fits."""
    return as_text(with_checksum({key: value for key, value in record.items() if key != "checksum"}))


def config_of(settings=None, **tables) -> dict:
    """The configuration of these papers with these tables, and whole grids, at the mini scale, whatever the default run has of them.

    None stands for all tables of a paper: config_of({"seeds": [0]}, geiping2022=["main"], iyer2023=None).
    """
    config = load_config(settings={"papers": list(tables), **(settings or {})})
    named = {paper: names for paper, names in tables.items() if names}
    config["scales"]["mini"] |= {"tables": named, "table_seeds": {}, "grids": {}}
    return config


def specs_at(paper: str, scale: str, **settings) -> dict:
    """The specification of each (run, seed) of a paper at a scale."""
    config = load_config(settings={"scale": scale, "papers": [paper], **settings})
    return {(run, seed): spec for (_, run, seed), spec in expand(config).items()}


@pytest.fixture(scope="session")
def shared_reference() -> dict:
    """The published results as the shared reference has them."""
    file = ROOT.parent / "shared/reference/published_results.yaml"
    if not file.is_file():
        pytest.skip("an extra: the reference is not beside this clone; the other tests pin the numbers")
    return yaml.safe_load(file.read_text())


def make_dataset(train: int = 23, test: int = 11, channels: int = 1, size: int = 8, classes: int = 3) -> Dataset:
    """Random images; the classes differ in brightness, so that there is something to learn."""
    random = np.random.default_rng(0)
    splits = []
    for count in (train, test):
        labels = random.integers(0, classes, count)
        images = random.integers(0, 100, (count, channels, size, size)) + 60 * labels[:, None, None, None]
        splits.append(Split(images.astype(np.uint8), labels))
    manifest = {
        "name": "tiny", "label": "tiny", "classes": list(map(str, range(classes))), "mean": [0.4] * channels,
        "std": [0.2] * channels, "sha256": content_digest(*splits), "train_images": train, "test_images": test,
    }  # fmt: skip
    return Dataset(*splits, manifest)


@pytest.fixture
def dataset() -> Dataset:
    return make_dataset()


def cropped(image: torch.Tensor, padding: int, top: int, left: int, flip: bool) -> torch.Tensor:
    """One image (C, H, W), padded, cropped to its size and flipped by torchvision."""
    image = tv.crop(tv.pad(image, [padding]), top, left, *image.shape[1:])
    return tv.hflip(image) if flip else image


def folder_of(dataset: Dataset, path: Path) -> Path:
    """Write a data set in canonical form."""
    path.mkdir()
    for split in ("train", "test"):
        part = getattr(dataset, split)
        tensors = {"images": torch.from_numpy(part.images), "labels": torch.from_numpy(part.labels)}
        save_file(tensors, path / f"{split}.safetensors")
    write_json(path / "manifest.json", dataset.manifest)
    return path


def write_images(folder: Path, classes, pixels, train: int, test: int, name: str = "{:04}.png") -> Path:
    """Write an image folder: pixels(label, i) of each image, split after split and class after class."""
    for split, count in (("train", train), ("test", test)):
        for label, one in enumerate(classes):
            (folder / split / one).mkdir(parents=True)
            for i in range(count):
                Image.fromarray(pixels(label, i).astype(np.uint8)).save(folder / split / one / name.format(i))
    return folder


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    """The folder of `make_dataset()`, which tests leave as it is."""
    return folder_of(make_dataset(), tmp_path_factory.mktemp("data") / "tiny")


@pytest.fixture(scope="session")
def whole(data, tmp_path_factory) -> Path:
    """The folder of a finished run of `make_spec()` on `data`, which tests leave as it is."""
    from whysgd.training.loop import train

    folder = tmp_path_factory.mktemp("whole") / "run"
    train([make_spec()], data, folder)
    return folder


@pytest.fixture
def load_own_paper(tmp_path, monkeypatch):
    """A function that loads a paper from text, with parts of it replaced: load(text, (old, new), …)."""
    monkeypatch.setattr(papers, "PAPERS", tmp_path)

    def load(text, *changes, name="mine"):
        papers.load_paper.cache_clear()
        for old, new in changes:
            assert old in text
            text = text.replace(old, new, 1)
        (tmp_path / f"{name}.yaml").write_text(text)
        return papers.load_paper(name)

    yield load
    papers.load_paper.cache_clear()


def copy_project(folder: Path) -> None:
    """Copy the project as a user would clone it, without results and environments."""
    left_out = {".git", ".venv", "results", "data", ".snakemake", ".ruff_cache"}
    folder.mkdir()
    # In a linked worktree .git is a file.
    for entry in [entry for entry in ROOT.iterdir() if entry.name not in left_out]:
        if entry.is_symlink():
            (folder / entry.name).symlink_to(os.readlink(entry))
        elif entry.is_dir():
            shutil.copytree(entry, folder / entry.name, ignore=shutil.ignore_patterns("__pycache__"))
        elif entry.is_file():
            shutil.copy2(entry, folder)


@pytest.fixture(scope="session")
def miniature(tmp_path_factory) -> Path:
    """A finished project of everything in miniature: made once for all workers, of which each has a copy.

    Tests that change it put back what they changed, or take a copy.
    """
    from miniature import OVERLAY, WORLD, copied, snakemake

    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared
    with FileLock(shared / "miniature.lock"):
        if not (shared / "miniature/made").exists():
            folder = copy_with(shared / "miniature", WORLD)
            (folder / "made").write_text(snakemake(folder, *OVERLAY).stderr)
    return copied(shared / "miniature", tmp_path_factory.mktemp("own") / "project")


@pytest.fixture
def edit(miniature):
    """A function that edits a file of the finished project, which is as it was after the test.

    edit(name, old, new) replaces text, edit(name, "", new) appends it.
    """
    edited = {}

    def change(name, old, new):
        file = miniature / name
        text = file.read_text()
        assert old in text, f"{old!r} is not in {name}"
        edited.setdefault(file, (text, file.stat()))
        file.write_text(text.replace(old, new, 1) if old else text + new)
        return miniature

    yield change
    for file, (text, stat) in edited.items():
        file.write_text(text)
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def copy_with(folder: Path, config: dict) -> Path:
    """A copy of the project in a new folder, with a configuration to lay over its own: tiny.yaml."""
    copy_project(folder)
    (folder / "tiny.yaml").write_text(yaml.safe_dump(config))
    return folder


def python(*words, cwd: Path = ROOT, check: bool = True, **variables) -> subprocess.CompletedProcess:
    """Run this interpreter with these words, with the package of the repository and other variables of the environment."""
    done = subprocess.run(
        [sys.executable, *map(str, words)], cwd=cwd, env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True, text=True, errors="replace", timeout=HUNG,
    )  # fmt: skip
    if check and done.returncode:
        raise AssertionError(f"{words} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return done


def in_namespace(options: list, command: list, probe: str = "true", **more) -> subprocess.CompletedProcess:
    """Run a command in a namespace of users of its own, with these options; skips where they may not do `probe` there."""
    enter = ["unshare", "--user", *options]
    more |= {"capture_output": True, "text": True, "errors": "replace", "check": False}
    if shutil.which("unshare") is None or subprocess.run([*enter, "sh", "-c", probe], **more).returncode:
        pytest.skip("this system gives users no namespaces, or lets them mount nothing there")
    return subprocess.run([*enter, *map(str, command)], **more)


def with_mount(mount: str, command: list, **more) -> subprocess.CompletedProcess:
    """Run a command where `mount` has been done, seen by nobody else; skips where users may mount nothing."""
    command = ["sh", "-c", f'{mount} && exec "$@"', "sh", *command]
    return in_namespace(["--map-root-user", "--mount"], command, "mount -t tmpfs disk /tmp", **more)


def run(command: list, folder: Path, check: bool = True) -> subprocess.CompletedProcess:
    """Run this interpreter's `python -m …` in a folder, with that folder's package."""
    return python("-m", *command, cwd=folder, check=check, PYTHONPATH=str(folder))
