"""Damaged, foreign, missing and read-only files, and a clock that jumps: one line that names the file, nothing wrong."""

import gzip
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, error_of, flip_a_bit, folder_of, in_namespace, make_dataset, make_spec, one_line, python
from filelock import FileLock
from test_data import mnist_files
from test_loop import assert_equal_results, dying_after, results
from torchvision import datasets as tv

from whysgd.data import build
from whysgd.data.build import build_dataset
from whysgd.data.build_store import build_store
from whysgd.data.canonical import load_dataset
from whysgd.data.sources import load_torchvision
from whysgd.files import read_json
from whysgd.measures.run import load_runs, measure_batch
from whysgd.report.frame import read_histories, read_runs
from whysgd.report.measures import read_measures
from whysgd.results.metrics import OF_A_SEED, with_checksum
from whysgd.results.paths import run_folder
from whysgd.results.records import write_records
from whysgd.study.spec import NoiseProbe, StoredCopies
from whysgd.training import loop
from whysgd.training import results as training_results
from whysgd.training.loop import Options, train

SPECS = [make_spec(epochs=2, noise=NoiseProbe(points=2), seed=seed) for seed in (3, 4)]


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """The folder of two finished seeds of a run on `data`."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    train(SPECS, data, folder)
    return folder


def rechecked(**changes):
    """Metrics with other values, those of a seed among them, and a checksum that fits: what another program may write."""

    def change(metrics):
        own = {key: value for key, value in changes.items() if key in OF_A_SEED}
        seeds = {seed: {**values, **own} for seed, values in metrics["seeds"].items()}
        content = {**metrics, "seeds": seeds, **{key: value for key, value in changes.items() if key not in own}}
        del content["checksum"]
        return json.dumps(with_checksum(content))

    return change


def a_digit(metrics):
    """Another digit of the test accuracy."""
    text, value = json.dumps(metrics), json.dumps(metrics["seeds"]["3"]["final"]["test_accuracy"])
    return text.replace(value, value[:-1] + str((int(value[-1]) + 1) % 10))


DAMAGED_METRICS = {
    "empty": (lambda metrics: "", "not readable as JSON"),
    "cut short": (lambda metrics: json.dumps(metrics)[:-200], "not readable as JSON"),
    "zeros": (lambda metrics: "\0" * 500, "not readable as JSON"),
    "not UTF-8": (lambda metrics: b'{"paper": "\xff"}', "not readable as JSON"),
    "very deep": (lambda metrics: "[" * 100_000, "not readable as JSON"),
    "a list": (lambda metrics: "[]", "not the metrics of a run"),
    "nothing in it": (lambda metrics: "{}", "not the metrics of a run|does not match its checksum"),
    "a key alone": (lambda metrics: '{"paper": "p"}', "not the metrics of a run|does not match its checksum"),
    "no seed": (rechecked(seeds={}), "has no seed"),
    "NaN": (lambda metrics: re.sub(r'"test_loss": [\d.]+', '"test_loss": NaN', json.dumps(metrics)), "NaN is no number"),
    "another digit": (a_digit, "does not match its checksum"),
    "a text for a number": (rechecked(final={"test_accuracy": "98"}), "not the metrics of a run"),
    "settings of another type": (rechecked(settings=["x"]), "not the metrics of a run"),
    "settings of another run": (lambda m: rechecked(settings={**m["settings"], "lr": 9.0})(m), "not those of its spec_digest"),
    "another run": (rechecked(run="another"), "run = 'another' is not that of its settings"),
    "no data": (rechecked(data=None), "data: must be a mapping"),
    "an unknown status": (rechecked(status="fine"), "status = 'fine': allowed"),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "message"), DAMAGED_METRICS.values(), ids=DAMAGED_METRICS.keys())
def test_damaged_metrics_are_rejected_with_their_path_by_every_reader(
    finished, data, tmp_path, damage, message, capsys
):
    run = shutil.copytree(finished, tmp_path / "run")
    file = run / "metrics.json"
    content = damage(read_json(file))
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    readers = {
        "collecting": lambda: read_runs([file]),
        "histories": lambda: read_histories([file], [run / "history.csv"]),
        "measuring": lambda: list(load_runs(run, data)),
        "records": lambda: write_records([run], root=tmp_path / "records"),
        "training": lambda: train(SPECS, data, run),
    }
    for reader in readers.values():
        with one_line(rf"run/metrics\.json: .*{message}"):
            reader()
    assert not (tmp_path / "records").exists()
    for command in (["measure", "flatness", "--run", run], ["landscape", "line", "--run", run], ["record", run]):
        assert error_of(capsys, *command).startswith(f"error: {file}: ")


def test_metrics_in_the_folder_of_another_run_are_rejected(finished, tmp_path):
    own, other = (run_folder("mini", "geiping2022", run) / "seeds-3-4" for run in ("test", "other"))
    for folder in (own, other):
        shutil.copytree(finished, tmp_path / folder)
    assert read_runs([tmp_path / own / "metrics.json"], placed=True).seed.tolist() == [3, 4]
    with one_line(rf"other/seeds-3-4/metrics\.json: the metrics of {own}; remove it"):
        read_runs([tmp_path / folder / "metrics.json" for folder in (own, other)], placed=True)


@pytest.mark.parametrize("name", ["history.csv", "noise.csv", "layers.csv"])
def test_logs_that_were_changed_are_rejected(finished, tmp_path, name):
    run = shutil.copytree(finished, tmp_path / "run")
    assert len(read_histories([run / "metrics.json"], [run / name]))
    text = (run / name).read_text()
    last = text.rindex(next(digit for digit in reversed(text) if digit.isdigit()))
    (run / name).write_text(text[:last] + str((int(text[last]) + 1) % 10) + text[last + 1 :])
    with one_line(rf"run/{name}: was changed after the run wrote it"):
        read_histories([run / "metrics.json"], [run / name])


@pytest.mark.parametrize("name", ["model.safetensors", "history.csv", "gradient_norms.csv", "noise_norms.csv"])
def test_a_run_with_a_damaged_result_is_trained_again(finished, data, tmp_path, capsys, name):
    run = shutil.copytree(finished, tmp_path / "run")
    flip_a_bit(run / name, -3)
    train(SPECS, data, run)
    assert f"run/{name}: is not what the run wrote; training again" in capsys.readouterr().err
    assert_equal_results(results(finished), results(run))


@pytest.mark.parametrize("content", ["", "{}", "[0]", '[{"quantities": NaN}]', '[{"paper": "p", "quantities": []}]'])
def test_damaged_measures_are_rejected_with_their_path(finished, tmp_path, content):
    run = shutil.copytree(finished, tmp_path / "run")
    (run / "measures").mkdir()
    file = run / "measures/all.json"
    file.write_text(content)
    for reader in (lambda: read_measures([file]), lambda: write_records([run], root=tmp_path / "records")):
        with one_line(r"measures/all\.json: "):
            reader()


@contextmanager
def as_a_user():
    """Within the block this process may do no more than a user may, if it is root's."""
    before = os.geteuid()
    os.seteuid(before or 65534)
    try:
        yield
    finally:
        os.seteuid(before)


@pytest.fixture
def open_folder():
    """A folder that every user can enter; those of pytest are private."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    for place in (folder / "locked", folder / "locked/begun"):
        if place.exists():
            place.chmod(0o755)
    shutil.rmtree(folder)


def test_a_results_folder_that_cannot_be_written_is_one_line(open_folder):
    data = folder_of(make_dataset(), open_folder / "data")
    train(SPECS, data, open_folder / "run")
    runs, plan = list(load_runs(open_folder / "run", data)), StoredCopies(copies=2, crop_padding=1, flip=True)
    jobs = {
        r"new: cannot be used as the run's folder": lambda place: train(SPECS, data, place / "new"),
        r"begun: cannot be used as the run's folder": lambda place: train(SPECS, data, place / "begun"),
        r"digits/train\.safetensors: cannot be written": lambda place: build_dataset("digits", None, data, place / "digits"),
        r"s\.lmdb: cannot be written": lambda place: build_store(make_dataset(), plan, place / "s.lmdb"),
        r"flatness\.json: cannot be written": lambda place: measure_batch(["flatness"], runs, place / "flatness.json"),
        r"seed-3\.json: cannot be written": lambda place: write_records([open_folder / "run"], root=place),
    }  # fmt: skip
    for job in jobs.values():
        job(open_folder / "open")
    locked = open_folder / "locked"
    (locked / "begun").mkdir(parents=True)
    for place in (locked / "begun", locked):
        place.chmod(0o555)
    for message, job in jobs.items():
        with as_a_user(), one_line(rf"{message}.*Permission denied"):
            job(locked)
    assert [entry.name for entry in locked.rglob("*")] == ["begun"]


@pytest.fixture
def small_mnist(tmp_path, monkeypatch):
    """The archives of a small MNIST, with checksums that torchvision will find right, and nowhere to download from."""
    raw, sums = tmp_path / "MNIST/raw", []
    raw.mkdir(parents=True)
    for name, content in mnist_files().items():
        archive = gzip.compress(content)
        (raw / f"{name}.gz").write_bytes(archive)
        sums.append((f"{name}.gz", hashlib.md5(archive).hexdigest()))
    monkeypatch.setattr(tv.MNIST, "resources", sums)
    monkeypatch.setattr(tv.MNIST, "mirrors", ["http://127.0.0.1:9/"])
    return raw


@pytest.mark.parametrize("fault", ["none", "half unpacked", "other content", "half a download beside a whole file"])
def test_a_data_set_that_was_half_unpacked_is_unpacked_again(small_mnist, fault):
    whole = load_torchvision("mnist", small_mnist.parents[1])
    file = small_mnist / "train-images-idx3-ubyte"
    if fault == "half unpacked":
        os.truncate(file, 5000)
    elif fault == "other content":
        file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    elif fault.startswith("half a download"):
        os.truncate(small_mnist / f"{file.name}.gz", 1000)
    again = load_torchvision("mnist", small_mnist.parents[1])
    assert np.array_equal(again.train.images, whole.train.images)


def test_half_a_download_is_not_used_and_named(small_mnist):
    archive = small_mnist / "train-images-idx3-ubyte.gz"
    content = archive.read_bytes()
    archive.write_bytes(content[: len(content) // 2])
    with one_line(r"mnist: cannot be downloaded .*put MNIST/raw/ with the four idx files"):
        load_torchvision("mnist", small_mnist.parents[1])
    archive.write_bytes(content)
    assert len(load_torchvision("mnist", small_mnist.parents[1]).train.labels) == 30


def test_a_half_unpacked_file_without_its_archive_is_named(small_mnist):
    load_torchvision("mnist", small_mnist.parents[1])
    file = small_mnist / "train-images-idx3-ubyte"
    (small_mnist / f"{file.name}.gz").unlink()
    os.truncate(file, 5000)
    with one_line(r"mnist: .*is damaged .*in place of what is there"):
        load_torchvision("mnist", small_mnist.parents[1])


def test_a_build_that_was_killed_leaves_no_data_set_and_is_mended_by_another(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(build, "write_json", lambda *arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            build_dataset("digits", None, tmp_path, tmp_path / "digits")
    with one_line("no data set there"):
        load_dataset(tmp_path / "digits")
    build_dataset("digits", None, tmp_path, tmp_path / "digits")
    assert len(load_dataset(tmp_path / "digits").train.labels) == 512


class Clock:
    """A clock on the wall that jumps by hours, forth and back; those that only measure go on as they do."""

    def __init__(self, monkeypatch):
        self.calls, self.asked, real = 0, 0, time.time

        def jumping():
            self.calls += 1
            return real() - (-1) ** self.calls * 7200 * self.calls

        monkeypatch.setattr(time, "time", jumping)

        class Jumping(training_results.datetime):
            @classmethod
            def now(cls, tz=None):
                self.asked += 1
                return cls.fromtimestamp(real() - (-1) ** self.asked * 7200 * self.asked, tz)

        monkeypatch.setattr(training_results, "datetime", Jumping)


def test_a_clock_that_jumps_changes_no_result_and_no_duration(data, tmp_path, monkeypatch):
    specs = [make_spec(epochs=6)]
    train(specs, data, tmp_path / "whole")
    clock = Clock(monkeypatch)
    saved, save = [], loop.save_checkpoint
    monkeypatch.setattr(loop, "save_checkpoint", lambda *arguments: saved.append(1) or save(*arguments))
    (metrics,) = train(specs, data, tmp_path / "run", Options(checkpoint_seconds=1000))
    assert clock.asked == 2
    assert metrics["ended"] < metrics["started"]
    assert not saved
    assert 0 < metrics["seconds_per_step"] < 3600  # the clock jumps by two hours and more
    assert metrics["cpu_seconds"] > 0
    assert_equal_results(results(tmp_path / "whole"), results(tmp_path / "run"))


def test_files_of_the_future_are_read_as_others(data, tmp_path, monkeypatch):
    specs, run = [make_spec(epochs=6)], tmp_path / "run"
    train(specs, data, tmp_path / "whole")
    with dying_after(monkeypatch, 4):
        train(specs, data, run, Options(checkpoint_seconds=1e-9))
    for file, days in zip(sorted(run.iterdir()), (-1000, 1000, 1), strict=False):
        os.utime(file, (time.time() + 86400 * days,) * 2)
    assert [metrics["sessions"] for metrics in train(specs, data, run)] == [2]
    assert_equal_results(results(tmp_path / "whole"), results(run))


def test_a_lock_that_a_killed_process_left_holds_nobody_up(finished, data, tmp_path):
    (tmp_path / "run").mkdir()
    pid = os.fork()
    if not pid:
        try:
            FileLock(tmp_path / "run/.lock").acquire()
        finally:
            os.kill(os.getpid(), 9)
    os.waitpid(pid, 0)
    assert (tmp_path / "run/.lock").exists()
    train(SPECS, data, tmp_path / "run")
    assert_equal_results(results(finished), results(tmp_path / "run"))


def test_every_fault_of_the_docs_names_a_test_that_exists():
    text = (ROOT / "docs/faults.md").read_text(encoding="utf-8")
    named = re.findall(r"`(test_\w+)\.py::(test_\w+)`", text)
    assert len(named) >= 20
    for file, test in named:
        assert f"def {test}(" in (ROOT / f"tests/{file}.py").read_text(encoding="utf-8"), f"{file}.py::{test}"
    rows = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith(("| fault", "|--"))]
    assert all("::test_" in row for row in rows), [row for row in rows if "::test_" not in row]


def test_a_user_without_a_name_trains_and_plans(data, tmp_path):
    """Without an entry in passwd and without USER, as with `docker run --user`."""
    keep = {"HOME": tempfile.gettempdir(), "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    spec = make_spec(epochs=1).to_dict()
    train_it = ["whysgd", "train", "--spec", json.dumps(spec), "--data", data, "--out", tmp_path / "run"]
    for command in (train_it, ["snakemake", "-n", "--quiet", "--directory", tmp_path, "-s", ROOT / "Snakefile"]):
        done = in_namespace(["--map-user=54321", "--map-group=54321"], [sys.executable, "-m", *command], env=keep)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "run/metrics.json").exists()
    assert "ENV USER=" in (ROOT / "envs/Dockerfile").read_text()


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_an_8_bit_locale_gets_replacements_not_a_traceback(tmp_path, encoding):
    (tmp_path / "results/mini/tables").mkdir(parents=True)
    (tmp_path / "results/mini/tables/geiping2022_main.md").write_text("| 1.0 ± 0.1 → – \u540d |", encoding="utf-8")
    commands = ["show", "geiping2022"], ["plan"], ["plan", "--configfile", os.fsdecode(b"\xff.yaml")]
    code = f"from whysgd.__main__ import main; print([main(words) for words in {commands}])"
    done = python("-c", code, cwd=tmp_path, PYTHONIOENCODING=encoding)
    assert done.stdout.endswith("[0, 0, 1]\n"), done.stderr
    assert done.stderr.count("error: ") == 1
    assert "Traceback" not in done.stderr


def test_originals_in_a_folder_of_another_user_are_read_without_a_lock(open_folder, monkeypatch):
    raw = open_folder / "open/FashionMNIST/raw"
    raw.mkdir(parents=True)
    for name, content in mnist_files().items():
        (raw / name).write_bytes(content)
    load_torchvision("fashion_mnist", open_folder / "open")  # imports what it needs
    (open_folder / "open/.fashion_mnist.lock").unlink()
    (open_folder / "open").rename(open_folder / "locked").chmod(0o555)
    monkeypatch.setattr(tv.FashionMNIST, "mirrors", ["http://127.0.0.1:9/"])
    with as_a_user():
        assert len(load_torchvision("fashion_mnist", open_folder / "locked").train.labels) == 30
    assert [entry.name for entry in (open_folder / "locked").iterdir()] == ["FashionMNIST"]
    (open_folder / "locked/FashionMNIST/raw/train-images-idx3-ubyte").unlink()
    with as_a_user(), one_line("fashion_mnist: cannot be downloaded or is damaged"):
        load_torchvision("fashion_mnist", open_folder / "locked")
