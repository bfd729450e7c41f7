"""Training jobs on GPUs of their own; the GPUs are names here, and nvidia-smi is a script."""

import os
import select
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest
import torch
from conftest import ROOT, one_line, python

import whysgd.training.device
import whysgd.training.loop
from whysgd.__main__ import main
from whysgd.training.gpus import VISIBLE, claim_gpu, visible_gpus

HOLD = """
import os, sys, time
from whysgd.training.gpus import claim_gpu
gpu = claim_gpu()
print(os.environ["CUDA_VISIBLE_DEVICES"], "torch" in sys.modules, flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """A machine whose nvidia-smi fails; `machine(lines)` makes it print these. Locks lie in `machine.locks`."""
    tools, locks = tmp_path / "tools", tmp_path / "locks"
    tools.mkdir()
    locks.mkdir()
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setattr("tempfile.tempdir", str(locks))
    monkeypatch.setenv("TMPDIR", str(locks))
    for variable in (VISIBLE, "WORLD_SIZE"):
        monkeypatch.delenv(variable, raising=False)

    def with_cards(*lines: str, status: int = 0):
        script = tools / "nvidia-smi"
        script.write_text("\n".join(["#!/bin/sh", *(f"echo '{line}'" for line in lines), f"exit {status}\n"]))
        script.chmod(0o755)

    with_cards(status=9)
    with_cards.locks = locks
    return with_cards


CARDS = ["0, GPU-aa11, 81559", "1, GPU-aa22, 81559", "2, GPU-bb33, 81559"]


@contextmanager
def job(visible: str | None = None):
    """A process that claims a GPU and keeps it until it is killed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)} | ({} if visible is None else {VISIBLE: visible})
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", HOLD], env=environment, **pipes)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def claimed(process) -> str:
    gpu, torch_is_there = process.stdout.readline().split()
    assert torch_is_there == "False"
    return gpu


def test_jobs_get_gpus_of_their_own_and_a_killed_one_frees_its_own():
    with job("0,1,2") as first, job("0,1,2") as second, job("0,1,2") as third:
        holders = {claimed(process): process for process in (first, second, third)}
        assert sorted(holders) == ["0", "1", "2"]
        with job("0,1,2") as fourth:
            expected = "every GPU is taken by another training job (0, 1, 2); waiting for the first that is free\n"
            assert fourth.stderr.readline() == expected
            # It asks again every second, and says nothing more.
            assert select.select([fourth.stdout, fourth.stderr], [], [], 1.5)[0] == []
            holders["1"].send_signal(signal.SIGKILL)
            assert claimed(fourth) == "1"
            fourth.kill()
            assert fourth.communicate() == ("", "")


def test_a_gpu_is_the_same_under_its_number_its_uuid_and_none(machine):
    machine(*CARDS)
    with job("1") as holder:
        assert claimed(holder) == "1"
        for visible in ("GPU-aa22", "1", "GPU-aa2"):
            with job(visible) as other:
                assert f"({visible}); waiting" in other.stderr.readline()
        with job() as first, job() as second:
            assert sorted(map(claimed, (first, second))) == ["GPU-aa11", "GPU-bb33"]
            with job("0,2") as third:
                assert "(0, 2); waiting" in third.stderr.readline()


def test_a_claim_leaves_this_process_one_gpu_until_it_is_released(machine, monkeypatch):
    monkeypatch.setenv(VISIBLE, "3,MIG-GPU-aa/1/0")
    first = claim_gpu()
    assert os.environ[VISIBLE] == "3"
    monkeypatch.setenv(VISIBLE, "3,MIG-GPU-aa/1/0")
    second = claim_gpu()
    assert os.environ[VISIBLE] == "MIG-GPU-aa/1/0"
    first.release()
    monkeypatch.setenv(VISIBLE, "3")
    third = claim_gpu()
    assert second.is_locked
    assert third.is_locked
    folder = machine.locks / f"whysgd-gpus-{os.getuid()}"
    assert sorted(file.name for file in folder.iterdir()) == ["3.lock", "MIG-GPU-aa_1_0.lock"]


@pytest.mark.parametrize(
    ("visible", "found"),
    [
        (None, {"GPU-aa11": "GPU-aa11", "GPU-aa22": "GPU-aa22", "GPU-bb33": "GPU-bb33"}),
        ("", {}),
        ("-1", {}),
        ("NoDevFiles", {}),
        ("0", {"0": "GPU-aa11"}),
        ("2, 0", {"2": "GPU-bb33", "0": "GPU-aa11"}),
        ("1,-1,2", {"1": "GPU-aa22"}),
        ("1,7,2", {"1": "GPU-aa22"}),
        ("GPU-bb33,GPU-aa11", {"GPU-bb33": "GPU-bb33", "GPU-aa11": "GPU-aa11"}),
        ("GPU-b", {"GPU-b": "GPU-bb33"}),
        ("GPU-a", {}),
        ("GPU-cc", {}),
        ("MIG-77", {"MIG-77": "MIG-77"}),
    ],
)
def test_visible_gpus_are_those_of_the_environment(machine, monkeypatch, visible, found):
    machine(*CARDS)
    if visible is not None:
        monkeypatch.setenv(VISIBLE, visible)
    assert list(visible_gpus().items()) == list(found.items())


def test_the_card_with_most_memory_is_first(machine):
    machine("0, GPU-display, 4096", "1, GPU-unknown, [N/A]", "2, GPU-large, 81559", "3, GPU-other, 81559")
    assert list(visible_gpus()) == ["GPU-large", "GPU-other", "GPU-display", "GPU-unknown"]


@pytest.mark.parametrize(
    ("output", "status"), [(None, None), (["No devices were found"], 0), (["0, GPU-aa11, 81559"], 9)]
)
def test_without_a_working_nvidia_smi_names_are_taken_as_they_are(machine, monkeypatch, output, status):
    if output is None:
        monkeypatch.setenv("PATH", str(machine.locks))
    else:
        machine(*output, status=status)
    assert visible_gpus() == {}
    assert claim_gpu() is None
    assert VISIBLE not in os.environ
    monkeypatch.setenv(VISIBLE, "1,GPU-a")
    assert visible_gpus() == {"1": "1", "GPU-a": "GPU-a"}


def test_ranks_claim_nothing(machine, monkeypatch):
    machine(*CARDS)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert claim_gpu() is None
    assert VISIBLE not in os.environ


def test_a_folder_that_cannot_hold_locks_is_one_line(machine, monkeypatch):
    monkeypatch.setenv(VISIBLE, "0")
    folder = machine.locks / f"whysgd-gpus-{os.getuid()}"
    folder.write_text("")
    with one_line(rf"^{folder}: cannot be used for the locks of GPUs \(File exists\); set TMPDIR$"):
        claim_gpu()
    assert os.environ[VISIBLE] == "0"


@pytest.mark.parametrize(
    ("wanted", "chosen", "seen", "held"),
    [
        ("auto", "cuda", "1", True),
        ("cuda", "cuda", "1", True),
        ("auto", "cpu", "1", False),
        ("cpu", "cpu", "1,2", False),
    ],
)
def test_training_claims_before_torch_looks_for_gpus(monkeypatch, wanted, chosen, seen, held):
    monkeypatch.setenv(VISIBLE, "1,2")
    calls = []

    def prepare_device(name, threads):
        calls.append(os.environ[VISIBLE])
        return torch.device(chosen)

    def train(specs, data, out, options, *others):
        # Another job of the same machine would now find the first GPU free, or not.
        monkeypatch.setenv(VISIBLE, "1,2")
        claim_gpu()
        calls.append((options.device.type, os.environ[VISIBLE] == "2"))

    monkeypatch.setattr(whysgd.training.device, "prepare_device", prepare_device)
    monkeypatch.setattr(whysgd.training.loop, "train", train)
    assert main(["train", "geiping2022/fb", "--device", wanted]) == 0
    assert calls == [seen, (chosen, held)]


def test_importing_the_loop_leaves_cuda_alone():
    code = "import whysgd.training.loop, torch; print(torch.cuda.is_initialized(), torch.cuda._cached_device_count)"
    assert python("-c", code).stdout.split() == ["False", "None"]
