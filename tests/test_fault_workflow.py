"""Faults and odd names in the workflow as a whole, run by Snakemake in a folder with a name of the worst kind."""

import copy
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import HUNG, copy_with, run, with_mount, write_images
from miniature import OVERLAY, TINY, dry_run, planned, snakemake, write_config
from test_loop import assert_equal_results, results

from whysgd.files import read_json

pytestmark = pytest.mark.workflow

ODD = "a b;touch x1 $(touch x2) `touch x3` 'q' \"r\" üñ名 &"
LABEL = "my | images % & \\input{/etc/passwd} <script>alert(1)</script> $(touch x4)"
# Two rows, one of them long enough to be killed in.
WORLD = copy.deepcopy(TINY)
WORLD |= {"data_dir": f"-{ODD}"}
WORLD["datasets"] = {"mine": {"source": "image_folder", "path": f"images/{ODD}", "label": LABEL}}
WORLD["scales"]["tiny"] |= {
    "seeds": [0], "datasets": {"*": "mine"}, "micro_batch_divisor": 8, "description": ODD,
    "skip": {"geiping2022": ["fb-long", "fb-clip", "fb-reg", "fb-strong-reg", "fb-practice"]},
}  # fmt: skip
LONG = copy.deepcopy(WORLD) | {"scale": "long", "checkpoint_seconds": 0.01, "evaluations": 2}
LONG["scales"] = {"long": LONG["scales"]["tiny"] | {"time_divisor": 1}}
TABLE = "results/tiny/tables/geiping2022_main.csv"
FB, LONG_FB = (f"results/{scale}/runs/geiping2022/fb/seeds-0" for scale in ("tiny", "long"))
COLLECTED = "results/tiny/logs/collect_runs/geiping2022.log"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A copy of the project in which all has been made, and nothing else."""
    folder = copy_with(tmp_path_factory.mktemp("around") / ODD, WORLD)
    random, classes = np.random.default_rng(0), ("$(touch x5)", "-rf ;")
    images = folder / "images" / ODD
    write_images(images, classes, lambda *_: random.integers(0, 256, (8, 8), dtype=np.uint8), 16, 4, "{} '.png")
    # `make` puts the interpreter there.
    (folder / "environment").symlink_to(sys.prefix)
    before = {entry.name for entry in folder.iterdir()}
    command = [folder / "environment/bin" / Path(sys.executable).name, "-m", "snakemake", "--cores", "2", *OVERLAY]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {entry.name for entry in folder.iterdir()} - before == {"results", ".snakemake"}
    return folder


def test_odd_names_of_folders_and_labels_run_no_command_and_leave_no_file_elsewhere(folder):
    assert {entry.name for entry in folder.parent.iterdir()} == {ODD}
    assert not [file for file in folder.rglob("x?") if file.is_file()]
    page = (folder / "results/tiny/index.html").read_text()
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert" not in page
    assert "\\input" not in (folder / TABLE.replace(".csv", ".tex")).read_text()
    assert "Nothing to be done" in dry_run(folder, *OVERLAY)[1]


# As `make` calls it, too.
QUIET = {"all": ["--quiet", "all"], "rules": ["--quiet", "rules"], "rich": ["--logger", "rich"]}


def quiet(*names):
    """Cases of `QUIET`, of which these alone are not slow."""
    return [pytest.param(QUIET[name], id=name, marks=[pytest.mark.slow] * (name not in names)) for name in QUIET]


@pytest.mark.parametrize("options", quiet("all", "rich"))
def test_metrics_that_were_damaged_fail_the_collection_with_their_path(folder, options):
    """The last lines of the log of a job that failed are shown with its path, whatever is told to be quiet."""
    file = folder / FB / "metrics.json"
    content = file.read_text()
    assert '"sessions": 1' in content
    file.write_text(content.replace('"sessions": 1', '"sessions": 2'))
    done = snakemake(folder, *options, *OVERLAY, check=False)
    assert done.returncode == 1
    error = f"error: {FB}/metrics.json: does not match its checksum"
    assert f"{COLLECTED} ends with:\n  {error}" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not (folder / "results/tiny/frames/geiping2022_runs.csv").exists()
    file.write_text(content)


def test_metrics_that_were_removed_are_trained_again(folder):
    """As the line about damaged ones says, though all that is made of them is still there."""
    assert "train" not in planned(folder, *OVERLAY)
    file = folder / FB / "metrics.json"
    moved = file.rename(folder / FB / "moved.json")
    assert planned(folder, *OVERLAY)["train"] == 1
    moved.rename(file)


def test_a_table_on_a_full_disk_is_one_line_and_not_half_written(folder):
    mount = "mount -t tmpfs -o size=8k disk results/tiny/tables && { head -c 9000 /dev/zero > results/tiny/tables/filler; true; }"
    command = [sys.executable, "-m", "snakemake", "--cores", "1", TABLE, "--configfile", "tiny.yaml"]
    listing = ["sh", "-c", '"$@"; code=$?; ls results/tiny/tables; exit $code', "sh", *command]
    done = with_mount(mount, listing, cwd=folder, env={**os.environ, "PYTHONPATH": str(folder)})
    assert done.returncode == 1
    assert f"error: {TABLE}: cannot be written (No space left on device)" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert done.stdout.split()[-1] == "filler"
    assert (folder / TABLE).exists()


def test_inputs_of_the_future_are_refused_by_snakemake_and_never_mixed(folder):
    whole = results(folder / FB)
    data = list((folder / "results/data/mine").glob("*.*"))
    for file in data:
        os.utime(file, (time.time() + 86400,) * 2)
    done = snakemake(folder, f"{FB}/metrics.json", "--forcerun", "train", *OVERLAY, check=False)
    assert done.returncode == 1
    assert "has older modification time" in done.stdout + done.stderr
    assert "clock skew" in done.stdout + done.stderr
    assert not (folder / FB / "metrics.json").exists()
    for file in data:
        os.utime(file)
    snakemake(folder, f"{FB}/metrics.json", *OVERLAY)
    assert_equal_results(whole, results(folder / FB))


TRAIN_LONG = ["--cores", "1", f"{LONG_FB}/metrics.json", "--configfile", "long.yaml"]


def begin(folder, *before):
    """Start Snakemake on the long run; returns it after the first checkpoint."""
    write_config(folder, "long.yaml", LONG)
    command = [*before, sys.executable, "-m", "snakemake", *TRAIN_LONG]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    with open(folder / "results/begun.log", "w") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
    while not (folder / LONG_FB / "checkpoint.safetensors").exists():
        assert process.poll() is None, (folder / "results/begun.log").read_text()
        time.sleep(0.002)
    return process


@pytest.fixture
def whole(folder, tmp_path):
    """What the long run ends with if nothing happens; its folder is gone after the test."""
    train = ["whysgd", "train", "geiping2022/fb", *write_config(folder, "long.yaml", LONG)]
    run([*train, "--data", "results/data/mine", "--out", tmp_path / "whole"], folder)
    yield results(tmp_path / "whole")
    subprocess.run(["rm", "-r", folder / "results/long"], check=True)


def test_a_workflow_that_timeout_ends_saves_and_the_same_command_goes_on(folder, whole):
    # When the time is up, or when it is told to end itself, it ends its command and all that this started.
    process = begin(folder, "timeout", str(HUNG))
    process.terminate()
    assert process.wait(HUNG) != 0
    logs = [folder / "results" / name for name in ("begun.log", "long/logs/train/geiping2022/fb/seeds-0.log")]
    assert "saved; run it again to continue" in "".join(log.read_text() for log in logs)
    assert (folder / LONG_FB / "checkpoint.safetensors").exists()
    assert not (folder / LONG_FB / "metrics.json").exists()
    run(["snakemake", *TRAIN_LONG], folder)
    assert read_json(folder / LONG_FB / "metrics.json")["sessions"] == 2
    assert_equal_results(whole, results(folder / LONG_FB))


@pytest.mark.slow
def test_two_at_once_and_one_that_is_killed_lose_nothing(folder, whole):
    in_use = f"error: {LONG_FB}: another process is training in this folder; wait for it"
    first = begin(folder)
    os.killpg(first.pid, signal.SIGSTOP)
    second = run(["snakemake", *TRAIN_LONG], folder, check=False)
    assert second.returncode == 1
    assert "Directory cannot be locked" in second.stdout + second.stderr
    # By hand, past Snakemake's lock.
    by_hand = ["whysgd", "train", "geiping2022/fb", "--configfile", "long.yaml", "--data", "results/data/mine"]
    by_hand = run([*by_hand, "--out", LONG_FB], folder, check=False)
    assert by_hand.returncode == 1
    assert by_hand.stderr.startswith(in_use)
    # Killed, Snakemake leaves its lock, and the training that goes on without it.
    first.send_signal(signal.SIGKILL)
    first.wait()
    second = run(["snakemake", *TRAIN_LONG], folder, check=False)
    assert "Directory cannot be locked" in second.stdout + second.stderr
    run(["snakemake", "--unlock", *TRAIN_LONG], folder)
    second = run(["snakemake", *TRAIN_LONG], folder, check=False)
    assert second.returncode == 1
    assert in_use in second.stdout + second.stderr
    # Unless it is killed as well.
    os.killpg(first.pid, signal.SIGKILL)
    run(["snakemake", *TRAIN_LONG], folder)
    assert_equal_results(whole, results(folder / LONG_FB))


BROKEN = """
import torch

class Broken(torch.nn.Linear):
    def __init__(self, classes):
        super().__init__(64, classes)

    def forward(self, x):
        # Where it is built it is tried with two images, and counted on the meta device.
        if len(x) > 2 and x.device.type != "meta":
            raise RuntimeError("the cause of it\\n  and a second line\\n\\n  and a third")
        return super().forward(x.flatten(1))
"""


@pytest.mark.parametrize("options", quiet("all"))
def test_a_network_that_raises_is_shown_with_its_log_and_its_last_lines(folder, options):
    (folder / "broken.py").write_text(BROKEN)
    config = copy.deepcopy(WORLD) | {"scale": "broken"}
    config["scales"] = {"broken": config["scales"]["tiny"] | {"models": {"*": "broken:Broken"}}}
    done = snakemake(folder, *options, *write_config(folder, "broken.yaml", config), check=False)
    assert done.returncode == 1
    shown = r"results/broken/logs/train/geiping2022/\w+/seeds-0.log ends with:\n(  .*\n)*  RuntimeError: the cause of it\n(  .*\n)*    and a third\n"
    assert re.search(shown, done.stderr), done.stderr
