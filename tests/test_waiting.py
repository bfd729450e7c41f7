"""Waiting for another process that trains in the same folder."""

import threading

from conftest import HUNG
from filelock import FileLock

from whysgd.training.waiting import wait_for_others


def test_it_waits_until_the_other_has_ended_and_says_so_once(tmp_path, capsys):
    other = FileLock(tmp_path / ".lock", thread_local=False)
    other.acquire()
    released = []
    threading.Timer(0.5, lambda: (released.append(True), other.release())).start()
    wait_for_others([tmp_path], HUNG)
    assert released
    assert capsys.readouterr().err == f"{tmp_path}: another process is training in this folder; waiting for it\n"
    # It does not keep what it waited for.
    FileLock(tmp_path / ".lock").acquire(timeout=0)


def test_it_gives_up_after_so_many_seconds_and_leaves_it_to_the_training_to_refuse(tmp_path, capsys):
    with FileLock(tmp_path / ".lock"):
        wait_for_others([tmp_path], 0.2)
    assert "waiting for it" in capsys.readouterr().err


def test_free_folders_are_not_waited_for_and_missing_ones_not_made(tmp_path, capsys):
    wait_for_others([tmp_path, tmp_path / "new"], 60)
    assert not (tmp_path / "new").exists()
    assert capsys.readouterr().err == ""
