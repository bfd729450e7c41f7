"""Runs that are asked to end, and runs whose checkpoint was damaged."""

import os
import shutil
import signal
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from conftest import flip_a_bit, make_spec, python
from safetensors.torch import save_file
from test_loop import assert_equal_results, results, run

from whysgd.errors import StopSignal
from whysgd.training import loop
from whysgd.training.checkpoint import State, load_checkpoint, save_checkpoint
from whysgd.training.loop import Trainer
from whysgd.training.stopping import ASKING, stop_requests


@pytest.fixture(autouse=True)
def signals_of_a_terminal():
    """A shell without job control ignores SIGINT for what it starts in the background, nohup ignores SIGHUP."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in ASKING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


DAMAGE = {
    "other settings": (lambda file: None, "belongs to other settings"),
    "cut short": (lambda file: file.write_bytes(file.read_bytes()[:-50]), "not readable"),
    "empty": (lambda file: file.write_bytes(b""), "not readable"),
    # In the last number: the file loads as well as before.
    "a flipped bit": (lambda file: flip_a_bit(file, -2), "damaged (its content does not match its checksum)"),
    "not a checkpoint": (lambda file: save_file({"x": torch.zeros(1)}, file), "not readable"),
    "killed between two renames": (lambda file: file.unlink(), "continuing from step 3"),
}


@pytest.fixture(scope="module")
def checkpoints(data, tmp_path_factory):
    """Folders with the checkpoints after the last two steps of the run, and of one with other settings."""
    folders = [tmp_path_factory.mktemp("checkpoints") for _ in range(2)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "remove_checkpoint", lambda folder: None)
        for folder, spec in zip(folders, (make_spec(), make_spec(lr=0.1)), strict=True):
            run(spec, data, folder, checkpoint_seconds=1e-9)
            (folder / "metrics.json").unlink()
    return folders


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE.keys())
@pytest.mark.parametrize("files", ["the newer", "both"])
def test_a_damaged_checkpoint_is_left_for_the_previous_with_a_word(
    data, whole, checkpoints, tmp_path, capsys, damage, message, files
):
    other = "settings" in message
    shutil.copytree(checkpoints[other], tmp_path / "run")
    damage(tmp_path / "run/checkpoint.safetensors")
    if files == "both":
        damage(tmp_path / "run/checkpoint.previous.safetensors")
    metrics = run(make_spec(), data, tmp_path / "run")
    said = capsys.readouterr().err
    assert message in said or files == "both"
    continued = files == "the newer" and not other
    assert ("checkpoint.previous.safetensors: continuing from step 3" in said) == continued
    assert metrics["sessions"] == (2 if continued else 1)
    assert_equal_results(results(whole), results(tmp_path / "run"))


def test_a_damaged_checkpoint_never_takes_the_place_of_the_previous(tmp_path, monkeypatch):
    def state(step):
        return State(*(torch.full((3,), float(step)) for _ in range(3)), {"momentum": torch.ones(3)}, step=step)

    for step in (1, 2):
        save_checkpoint(tmp_path, [state(step)], "mine")
    flip_a_bit(tmp_path / "checkpoint.safetensors", -2)
    assert load_checkpoint(tmp_path, "mine")[0].step == 1
    # Killed between the two renames of the next one.
    replace_file, calls = os.replace, []

    def killed(source, target):
        calls.append(target)
        if Path(target).name == "checkpoint.safetensors":
            raise KeyboardInterrupt
        replace_file(source, target)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path, [state(3)], "mine")
    monkeypatch.undo()
    assert calls
    assert load_checkpoint(tmp_path, "mine")[0].step == 1


@contextmanager
def signalled(monkeypatch, number, after):
    """Training gets this signal in the step that follows so many."""
    step = Trainer.step

    def signalled_step(self):
        if self.batch.step == after:
            signal.raise_signal(number)
        return step(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", signalled_step)
        yield


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_ends_a_run_after_its_step_with_a_checkpoint(data, whole, tmp_path, monkeypatch, capsys, number):
    spec = make_spec()
    with signalled(monkeypatch, number, 2), pytest.raises(StopSignal) as stopped:
        run(spec, data, tmp_path / "cut")
    assert signal.getsignal(number) is signal.default_int_handler
    assert stopped.value.number == number
    name = signal.Signals(number).name
    assert str(stopped.value) == f"{tmp_path / 'cut'}: step 3: ended by {name}, saved; run it again to continue"
    assert f"{name}: ending after this step" in capsys.readouterr().err
    assert run(spec, data, tmp_path / "cut")["sessions"] == 2
    assert_equal_results(results(whole), results(tmp_path / "cut"))


def test_a_signal_in_the_last_step_does_not_keep_a_run_from_its_results(data, tmp_path, monkeypatch):
    with signalled(monkeypatch, signal.SIGUSR1, 3):
        assert run(make_spec(), data, tmp_path / "run")["steps"] == 4


def test_a_second_interrupt_is_obeyed_at_once_and_an_ignored_signal_stays_ignored():
    with stop_requests() as asked:
        signal.raise_signal(signal.SIGINT)
        assert asked
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert asked.number == signal.SIGINT
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_requests() as asked:
            signal.raise_signal(signal.SIGHUP)
            assert not asked
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_while_a_finished_command_leaves_does_not_make_it_fail():
    leaving = "atexit.register(os.kill, os.getpid(), signal.SIGTERM)"
    command = "sys.argv = ['whysgd', 'settings', 'geiping2022/fb']; run()"
    python("-c", f"import atexit, os, signal, sys; from whysgd.__main__ import run; {leaving}; {command}")
