import hashlib
import itertools
import json
import multiprocessing
import os
import shutil
import signal
from dataclasses import replace
from types import SimpleNamespace

import lmdb
import numpy as np
import pytest
import torch
from conftest import HUNG, cropped, error_of, folder_of, make_dataset, make_spec, one_line
from test_loop import run

from whysgd.__main__ import main
from whysgd.data import build_store as building
from whysgd.data import loader
from whysgd.data.augmentation import draw_copy
from whysgd.data.build_store import build_store, map_size
from whysgd.data.store import open_store
from whysgd.errors import UserError
from whysgd.files import read_json
from whysgd.streams import stream
from whysgd.study.length import steps_per_epoch
from whysgd.study.spec import Augmentation, StoredCopies
from whysgd.training.loop import Trainer

PLAN = StoredCopies(copies=3, crop_padding=2, flip=True, seed=5)


@pytest.fixture
def small_chunks(monkeypatch):
    """Chunks of 5 images of 3×8×8 (23 in a copy: chunks reach over copies)."""
    monkeypatch.setattr(building, "CHUNK_BYTES", 1000 + building.PAGE_HEADER)


def obvious(dataset, plan):
    """All copies, image by image, with torchvision."""
    copies = []
    for copy in range(plan.copies):
        augmentation = Augmentation(crop_padding=plan.crop_padding, flip=plan.flip)
        top, left, flip = draw_copy(augmentation, len(dataset.train.labels), plan.seed, copy)
        for i, image in enumerate(torch.from_numpy(dataset.train.images)):
            if not (plan.clean_first and copy == 0):
                image = cropped(image, plan.crop_padding, top[i], left[i], flip[i])
            copies.append(image)
    return torch.stack(copies).numpy()


@pytest.mark.parametrize(
    "plan", [PLAN, PLAN.replace(clean_first=True), PLAN.replace(flip=False), PLAN.replace(copies=1, crop_padding=0)]
)
def test_a_store_has_the_images_that_torchvision_makes_of_the_same_draws(tmp_path, small_chunks, plan):
    dataset = make_dataset(channels=3)
    store = build_store(dataset, plan, tmp_path / "s.lmdb")
    expected = obvious(dataset, plan)
    assert np.array_equal(store.read(), expected)
    assert (store.copies, store.images, store.shape, len(store)) == (plan.copies, 23, (3, 8, 8), plan.copies * 23)
    assert np.array_equal(store.labels, dataset.train.labels)
    numbers = np.random.default_rng(0).integers(0, len(store), 100)
    assert np.array_equal(store.take(numbers), expected[numbers])
    assert store.take(np.array([], np.int64)).shape == (0, 3, 8, 8)
    for number in (-1, len(store)):
        with pytest.raises(IndexError, match=rf"image {number} of {len(store)}"):
            store.take(np.array([0, number]))


def test_what_it_is_stands_inside(tmp_path):
    dataset = make_dataset(channels=3)
    store = build_store(dataset, PLAN, tmp_path / "s.lmdb")
    assert {key: store.meta[key] for key in PLAN.content} == PLAN.content
    assert store.meta["classes"] == store.classes == dataset.manifest["classes"]
    assert store.meta["source"] == {key: dataset.manifest[key] for key in ("name", "label", "sha256")}
    content = hashlib.sha256(np.ascontiguousarray(store.read()))
    content.update(store.labels.astype("<i8"))
    assert store.meta["sha256"] == content.hexdigest()
    # As the module documents it, for readers in other languages.
    shutil.copy(tmp_path / "s.lmdb", tmp_path / "copy.lmdb")
    with lmdb.open(str(tmp_path / "copy.lmdb"), subdir=False, readonly=True, lock=False) as environment:
        keys = [key for key, _ in environment.begin().cursor()]
    assert keys == [b"images/00000000", b"labels", b"meta"]


def test_the_draws_of_a_copy_depend_on_seed_and_copy_and_not_on_what_was_drawn_before():
    augmentation = Augmentation(crop_padding=4, flip=True)
    alone = np.stack(draw_copy(augmentation, 50, 0, 3))
    for copy in (1, 3, 0):
        after = np.stack(draw_copy(augmentation, 50, 0, copy))
        assert np.array_equal(after, alone) == (copy == 3)
    assert not np.array_equal(np.stack(draw_copy(augmentation, 50, 1, 3)), alone)


def build(path, last=None):
    """Build a store of 1,994 chunks, and kill this process before it makes the chunk with this number."""
    building.CHUNK_BYTES = 2000
    count, make = itertools.count(), building.crop_and_flip
    building.crop_and_flip = lambda *chunk: os.kill(os.getpid(), 9) if next(count) == last else make(*chunk)
    build_store(make_dataset(train=997, channels=3), StoredCopies(copies=20, crop_padding=2, flip=True), path)


def ends(*arguments):
    """How processes end that build at the same time."""
    processes = [multiprocessing.get_context("fork").Process(target=build, args=one) for one in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join(HUNG)
    return [process.exitcode for process in processes]


def test_killed_builds_and_two_at_once_end_with_one_sound_store(tmp_path):
    path = tmp_path / "s.lmdb"
    assert ends((tmp_path / "whole.lmdb",)) == [0]
    for last in (300, 1993):
        assert ends((path, last)) == [-signal.SIGKILL]
        assert not path.exists()
    assert ends((path,), (path,)) == [0, 0]
    assert path.read_bytes() == (tmp_path / "whole.lmdb").read_bytes()
    # Nothing is left of those that were killed.
    assert {file.name for file in tmp_path.iterdir() if not file.name.endswith(".lock")} == {"s.lmdb", "whole.lmdb"}


def test_an_interrupted_build_leaves_nothing_and_what_others_leave_is_kept(tmp_path, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    ours, others = tmp_path / ".s.12.tmp.lmdb", {tmp_path / ".s.1.12.tmp.lmdb", tmp_path / ".s.12.tmp.json"}
    for file in (ours, *others):
        file.write_bytes(b"half")
    monkeypatch.setattr(building, "crop_and_flip", interrupt)
    with pytest.raises(KeyboardInterrupt):
        build_store(make_dataset(channels=3), PLAN, tmp_path / "s.lmdb")
    assert set(tmp_path.iterdir()) == {*others, tmp_path / ".s.lmdb.lock"}


def test_a_finished_store_is_left_and_one_of_another_plan_refused(tmp_path):
    dataset, path = make_dataset(channels=3), tmp_path / "s.lmdb"
    build_store(dataset, PLAN, path)
    before = path.stat().st_mtime_ns
    build_store(dataset, PLAN, path)
    assert path.stat().st_mtime_ns == before
    with pytest.raises(UserError, match=r"s.lmdb: is another store \(of another seed\); remove it to build it again"):
        build_store(dataset, PLAN.replace(seed=1), path)


DAMAGES = {
    "cut short": lambda b: b[: len(b) // 2],
    "cut by a byte": lambda b: b[:-1],
    "longer": lambda b: b + b"x",
    "empty": lambda b: b"",
    "not a store": lambda b: b"hello",
    "a bit of an image": lambda b: b[:9000] + bytes([b[9000] ^ 4]) + b[9001:],
    "a bit of a tree": lambda b: b[:8200] + bytes([b[8200] ^ 64]) + b[8201:],
    "a bit of the header": lambda b: b[:20] + bytes([b[20] ^ 1]) + b[21:],
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_store_is_refused_and_named(tmp_path, damage):
    path = tmp_path / "s.lmdb"
    build_store(make_dataset(channels=3), PLAN, path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=r"s\.lmdb: .*remove it to build it again"):
        open_store(path, verify=True)


def test_every_flipped_bit_is_seen(tmp_path):
    path = tmp_path / "s.lmdb"
    build_store(make_dataset(channels=3), PLAN, path)
    whole, random = path.read_bytes(), np.random.default_rng(0)
    for place in random.integers(0, len(whole), 60):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(random.integers(8))
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="remove it to build it again"):
            open_store(path, verify=True)


@pytest.mark.parametrize("content", [b"", b"hello", b"\0" * 100_000])
def test_what_is_no_store_is_refused_also_without_verifying(tmp_path, content):
    (tmp_path / "s.lmdb").write_bytes(content)
    with pytest.raises(UserError, match=r"s\.lmdb"):
        open_store(tmp_path / "s.lmdb")


def test_a_store_can_be_opened_twice_in_one_process_and_after_it_was_built_again(tmp_path):
    path, plans = tmp_path / "s.lmdb", (PLAN, PLAN.replace(seed=1))
    stores = []
    for plan in plans:
        path.unlink(missing_ok=True)
        stores += [build_store(make_dataset(channels=3), plan, path), open_store(path, verify=True)]
    for store, plan in zip(stores, np.repeat(plans, 2), strict=True):
        assert np.array_equal(store.read(), obvious(make_dataset(channels=3), plan))


def test_a_store_of_another_format_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(building, "FORMAT", "whysgd store 0")
    monkeypatch.setattr("whysgd.data.store.FORMAT", "whysgd store 0")
    build_store(make_dataset(channels=3), PLAN, tmp_path / "s.lmdb")
    monkeypatch.undo()
    with one_line("s.lmdb: not a store of the format 'whysgd store 1'; remove it to build it again"):
        open_store(tmp_path / "s.lmdb")


def test_a_store_that_is_not_there(tmp_path):
    for verify in (False, True):
        with pytest.raises(UserError, match=r"gone\.lmdb: no store there; make one with `whysgd build-store`"):
            open_store(tmp_path / "gone.lmdb", verify)


def test_a_disk_that_is_full_when_the_file_is_flushed_is_one_line(tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("whysgd.files.os.fsync", full)
    with one_line(r"s\.lmdb: cannot be written \(No space left on device\)"):
        build_store(make_dataset(channels=3), PLAN, tmp_path / "s.lmdb")
    monkeypatch.undo()
    assert [file.name for file in tmp_path.iterdir()] == [".s.lmdb.lock"]
    build_store(make_dataset(channels=3), PLAN, tmp_path / "s.lmdb")


def test_a_disk_with_too_little_room_is_one_line_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(building.shutil, "disk_usage", lambda path: SimpleNamespace(free=1_000_000))
    with one_line(r"s\.lmdb: the disk has too little room: the build needs 1\.3 MB"):
        build_store(make_dataset(channels=3), PLAN, tmp_path / "s.lmdb")
    assert [file.name for file in tmp_path.iterdir()] == [".s.lmdb.lock"]


@pytest.mark.parametrize("shape", [(1, 2, 3, 3), (700, 1, 8, 8), (90, 3, 32, 32), (3, 3, 400, 400)])
@pytest.mark.parametrize("copies", [1, 3])
def test_the_map_is_large_enough_and_the_file_little_more_than_its_content(tmp_path, shape, copies):
    dataset = make_dataset(train=shape[0])
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    dataset = replace(dataset, train=replace(dataset.train, images=images))
    store = build_store(dataset, StoredCopies(copies=copies, crop_padding=1, flip=False), tmp_path / "s.lmdb")
    size, content = store.path.stat().st_size, store.read().nbytes
    assert size < map_size(store.meta)
    assert size <= 1.02 * content + 8 * shape[0] + 8 * building.PAGE


@pytest.mark.parametrize("images_on", ["device", "host"])
@pytest.mark.parametrize("shuffle", [True, False])
def test_stochastic_epochs_take_one_copy_after_the_other_and_full_batch_all(tmp_path, images_on, shuffle):
    dataset = make_dataset(channels=3)
    store = build_store(dataset, PLAN, tmp_path / "s.lmdb")
    images = obvious(dataset, PLAN)
    settings = {"augment": None, "store": PLAN, "shuffle": shuffle}
    sgd = make_spec(batch=5, **settings)
    placed, labels = loader.place(store, torch.device("cpu"), images_on), torch.from_numpy(dataset.train.labels)
    assert isinstance(placed, torch.Tensor) == (images_on == "device")
    ours = loader.DataLoader([sgd], placed, labels, "cpu")
    for epoch in range(5):
        groups = list(ours.groups(epoch, 0, 5))
        seen = torch.cat([x.flatten(0, 2) for x, _ in groups]).numpy()
        found = torch.cat([y.flatten() for _, y in groups]).numpy()
        copy = images[epoch % 3 * 23 :][:23]
        order = [int(np.flatnonzero((copy == image).all((1, 2, 3)))[0]) for image in seen]
        assert sorted(order) == list(range(23))
        assert shuffle or order == stream(PLAN.seed, "store-order", epoch % 3).permutation(23).tolist()
        assert np.array_equal(found, dataset.train.labels[order])
    full = make_spec(**settings)
    ours = loader.DataLoader([full], placed, labels, "cpu")
    assert ours.micro_batches_per_epoch == 14
    seen = torch.cat([x.flatten(0, 2) for x, _ in ours.groups(0, 0, 14)]).numpy()
    assert len(seen) == 69
    orders = [23 * c + stream(PLAN.seed, "store-order", c).permutation(23) for c in range(3)]
    assert shuffle or np.array_equal(seen, images[np.concatenate(orders)])
    plain = loader.DataLoader([full.replace(store=PLAN.replace(shuffle_copies=False))], placed, labels, "cpu")
    seen = torch.cat([x.flatten(0, 2) for x, _ in plain.groups(0, 0, 14)]).numpy()
    assert shuffle or np.array_equal(seen, images)


def test_steps_are_those_of_one_copy():
    plan = StoredCopies(copies=10, crop_padding=4, flip=True)
    sgd = make_spec(batch=128, micro_batch=128, drop_last=True, epochs=300, store=plan)
    assert sgd.epochs * steps_per_epoch(sgd, 50_000) == 117_000
    assert steps_per_epoch(make_spec(store=plan), 50_000) == 1


def test_a_run_reads_its_store_and_refuses_another(tmp_path):
    dataset = make_dataset(channels=3)
    data = folder_of(dataset, tmp_path / "data")
    build_store(dataset, PLAN, tmp_path / "s.lmdb")
    spec = make_spec(augment=None, store=PLAN, epochs=4)
    metrics = run(spec, data, tmp_path / "run", store=tmp_path / "s.lmdb")
    assert metrics["data"]["store_sha256"] == open_store(tmp_path / "s.lmdb").meta["sha256"]
    streamed = run(spec, data, tmp_path / "streamed", store=tmp_path / "s.lmdb", images_on="host")
    assert (tmp_path / "run/model.safetensors").read_bytes() == (tmp_path / "streamed/model.safetensors").read_bytes()
    assert streamed["final"] == metrics["final"]
    with pytest.raises(UserError, match=r"s\.lmdb: is of another seed than the run asks for"):
        run(spec.replace(store=PLAN.replace(seed=0)), data, tmp_path / "other", store=tmp_path / "s.lmdb")
    with pytest.raises(UserError, match="store: the run needs its stored copies"):
        Trainer([spec], dataset)


def test_the_command_line(tmp_path, capsys):
    places = ["--data", str(folder_of(make_dataset(channels=3), tmp_path / "data")), "--out", str(tmp_path / "s.lmdb")]
    assert main(["build-store", "tiny", "--copies", "2", *places, "--flip", "--clean-first"]) == 0
    assert "46 images of tiny" in capsys.readouterr().out
    assert read_json(tmp_path / "s.json")["clean_first"] is True
    assert json.loads((tmp_path / "s.json").read_text())["bytes"] == (tmp_path / "s.lmdb").stat().st_size
    line = error_of(capsys, "build-store", "tiny", "--copies", 0, *places)
    assert line == "error: build-store: argument --copies: 0: must be at least 1"
