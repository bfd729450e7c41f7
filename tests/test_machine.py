"""What this machine's devices are called, found out without torch, and what else decides bits."""

import subprocess

import torch

from whysgd.results import machine
from whysgd.training.device import device_name


def test_this_machines_device_is_found(tmp_path):
    names = ["NVIDIA H100 80GB HBM3", "NVIDIA L4"]
    for place, name in enumerate(names):
        (tmp_path / f"0000:{place}1:00.0").mkdir()
        (tmp_path / f"0000:{place}1:00.0" / "information").write_text(f"Model: \t\t {name}\nIRQ:   \t\t 16\n")
    assert machine.gpu_names(tmp_path) == names
    assert machine.gpu_names(tmp_path / "none") == []
    assert machine.device_here("cpu") == device_name(torch.device("cpu"))


def test_the_processor_its_instructions_blas_and_the_commit_are_known(tmp_path):
    facts = machine.machine_facts()
    assert facts["processor"] == machine.processor_name()
    assert f"CPU capability usage: {facts['instruction_set']}" in torch.__config__.show()
    assert f"BLAS_INFO={facts['blas'].split()[0]}" in torch.__config__.show()

    def git(*words):
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    assert machine.git_commit(tmp_path) is None
    git("init")
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "-m", "first")
    commit = git("rev-parse", "HEAD").strip()
    # A folder below is no repository of its own: what is installed there has another origin.
    (tmp_path / "below").mkdir()
    assert machine.git_commit(tmp_path / "below") is None
    assert machine.git_commit(tmp_path) == commit
    (tmp_path / "file").write_text("2")
    assert machine.git_commit(tmp_path) == f"{commit}-dirty"
