"""A disk that gets full, and a results folder that cannot be written: one line, and nothing lost or half-written.

The limit on the size of files stands for a full disk: any user can set it, on any system, and writes fail in the same
places. The last test runs some of the others on a disk that is really full, where the system lets a user have one.
"""

import json
import os
import resource
import shutil
import sys
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, folder_of, make_dataset, make_spec, one_line, with_mount
from test_loop import assert_equal_results, results

from whysgd import files
from whysgd.data import build_store as building
from whysgd.data.build import build_dataset
from whysgd.data.build_store import build_store
from whysgd.data.canonical import load_dataset
from whysgd.data.store import open_store
from whysgd.files import write_text
from whysgd.measures.run import load_runs, measure_batch
from whysgd.study.spec import StoredCopies
from whysgd.training import loop
from whysgd.training import results as training_results
from whysgd.training.loop import Options, train

# The folder of a small disk of its own, for the last test.
DISK = "WHYSGD_TEST_DISK"
ALWAYS = Options(checkpoint_seconds=1e-9)
REASON = r"\((No space left on device|File too large)\)"


@pytest.fixture
def folder(tmp_path):
    if DISK not in os.environ:
        yield tmp_path
        return
    place = Path(os.environ[DISK], "test")
    place.mkdir()
    yield place
    shutil.rmtree(place)


@contextmanager
def full(folder: Path, room: int = 1000):
    """Within the block `folder` has no room for a file of more bytes than this, or for any at all."""
    if DISK in os.environ:
        filler = folder / "filler"
        with open(filler, "wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(1 << 12))
        assert shutil.disk_usage(folder).free == 0
        try:
            yield
        finally:
            filler.unlink()
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def no_litter(folder):
    assert not [file for file in folder.rglob("*") if ".tmp" in file.name]


def test_a_checkpoint_that_has_no_room_ends_the_job_and_the_one_before_it_is_continued(folder, monkeypatch, capsys):
    specs, data, run = [make_spec(epochs=6)], folder_of(make_dataset(), folder / "data"), folder / "run"
    train(specs, data, folder / "whole")
    with monkeypatch.context() as patch, ExitStack() as disk:
        saved, save = [], loop.save_checkpoint

        def fill_after_three(*arguments):
            saved.append(1)
            if len(saved) == 4:
                disk.enter_context(full(folder))
            return save(*arguments)

        patch.setattr(loop, "save_checkpoint", fill_after_three)
        with one_line(rf"run/checkpoint\.safetensors: cannot be written {REASON}"):
            train(specs, data, run, ALWAYS)
    no_litter(folder)
    capsys.readouterr()
    # With more room.
    assert [metrics["sessions"] for metrics in train(specs, data, run)] == [2]
    assert "continued after step 3" in capsys.readouterr().err
    assert_equal_results(results(folder / "whole"), results(run))


@pytest.mark.parametrize("name", ["model.safetensors", "history.csv", "gradient_norms.csv", "metrics.json"])
def test_results_that_have_no_room_are_written_when_there_is(folder, monkeypatch, name):
    specs, data, run = [make_spec(epochs=6)], folder_of(make_dataset(), folder / "data"), folder / "run"
    train(specs, data, folder / "whole")

    def with_full_disk(write):
        def wrapped(path, *rest):
            if Path(path).name != name:
                return write(path, *rest)
            with full(folder, 10):
                return write(path, *rest)

        return wrapped

    with monkeypatch.context() as patch:
        for function in ("write_atomically", "write_text", "write_json"):
            for module in (loop, training_results):
                patch.setattr(module, function, with_full_disk(getattr(files, function)), raising=False)
        with one_line(rf"run/{name}: cannot be written {REASON}"):
            train(specs, data, run, ALWAYS)
    assert not (run / "metrics.json").exists()
    no_litter(folder)
    assert [metrics["sessions"] for metrics in train(specs, data, run)] == [2]
    assert_equal_results(results(folder / "whole"), results(run))


def test_a_store_that_has_no_room_is_one_line_and_built_when_there_is(folder, monkeypatch):
    dataset, path = make_dataset(train=997, channels=3), folder / "s.lmdb"
    plan = StoredCopies(copies=8, crop_padding=2, flip=True)
    chunks, crop_and_flip = [], building.crop_and_flip
    with monkeypatch.context() as patch, ExitStack() as disk:

        def fill_in_the_middle(*arguments):
            chunks.append(1)
            if len(chunks) == 4:
                disk.enter_context(full(folder, 600_000))
            return crop_and_flip(*arguments)

        patch.setattr(building, "crop_and_flip", fill_in_the_middle)
        with one_line(r"s\.lmdb: cannot be written .*; is the disk full\?"):
            build_store(dataset, plan, path)
    assert not path.exists()
    no_litter(folder)
    build_store(dataset, plan, path)
    assert len(open_store(path, verify=True)) == 8 * 997


def test_a_data_set_that_has_no_room_is_not_there(folder):
    with full(folder), one_line(rf"digits/train\.safetensors: cannot be written {REASON}"):
        build_dataset("digits", None, folder, folder / "digits")
    with one_line("no data set there"):
        load_dataset(folder / "digits")
    no_litter(folder)
    build_dataset("digits", None, folder, folder / "digits")
    assert len(load_dataset(folder / "digits").train.labels) == 512


def test_a_table_that_has_no_room_leaves_the_old_one(folder):
    write_text(folder / "table.csv", "old\n" * 2000)
    with full(folder), one_line(rf"table\.csv: cannot be written {REASON}"):
        write_text(folder / "table.csv", "new\n" * 2000)
    assert (folder / "table.csv").read_text() == "old\n" * 2000
    no_litter(folder)


def test_a_measure_that_has_no_room_is_one_line(folder):
    data, out = folder_of(make_dataset(), folder / "data"), folder / "flatness.json"
    train([make_spec()], data, folder / "run")
    runs = list(load_runs(folder / "run", data))
    with full(folder, 100), one_line(rf"flatness\.json: cannot be written {REASON}"):
        measure_batch(["flatness"], runs, out)
    no_litter(folder)
    measure_batch(["flatness"], runs, out)
    assert np.isfinite(json.loads(out.read_text())[0]["quantities"]["flatness"]["value"])


def test_the_same_on_a_disk_that_is_really_full(tmp_path):
    if DISK in os.environ:
        return
    chosen = "checkpoint or metrics.json or store or measure"
    test = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", "-k", chosen, __file__]
    mount, environment = f"mount -t tmpfs -o size=24m disk {tmp_path}", {**os.environ, DISK: str(tmp_path)}
    done = with_mount(mount, test, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stdout[-5000:]
    assert done.stdout.startswith("...."), done.stdout
