"""Faults and odd names in the workflow as a whole, run by Snakemake in a folder with a name of the worst kind."""

import copy
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import yaml
from conftest import copy_with, run
from PIL import Image
from test_loop import assert_equal_results, results
from test_workflow import TINY

pytestmark = pytest.mark.workflow

ODD = "a b;touch x1 $(touch x2) `touch x3` 'q' \"r\" üñ名 &"
LABEL = "my | images % & \\input{/etc/passwd} <script>alert(1)</script> $(touch x4)"
# Two rows, one of them long enough to be killed in.
WORLD = copy.deepcopy(TINY)
WORLD |= {"data_dir": f"-{ODD}"}
WORLD["datasets"] = {"mine": {"source": "image_folder", "path": f"images/{ODD}", "label": LABEL}}
WORLD["scales"]["tiny"] |= {
    "seeds": [0], "datasets": {"*": "mine"}, "block_divisor": 8, "description": ODD,
    "skip": {"geiping2022": ["fb-long", "fb-clip", "fb-reg", "fb-strong-reg", "fb-practice"]},
}  # fmt: skip
LONG = copy.deepcopy(WORLD)
LONG["scales"]["tiny"] |= {"time_divisor": 1, "rules_of": {}}
LONG |= {"warm": False, "checkpoint_seconds": 0.01, "evaluations": 2}
TABLE = "results/tiny/tables/geiping2022_main.csv"
FB = "results/tiny/runs/geiping2022/fb/seed-0"


def snakemake(folder, *arguments, check=True):
    return run(["snakemake", "--cores", 2, *arguments, "--configfile", "tiny.yaml"], folder, check)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A copy of the project in which all has been made; what lies around it is listed before and after."""
    around = tmp_path_factory.mktemp("around")
    folder = copy_with(around / ODD, WORLD)
    random = np.random.default_rng(0)
    for split, count in (("train", 16), ("test", 4)):
        for name in ("$(touch x5)", "-rf ;"):
            place = folder / "images" / ODD / split / name
            place.mkdir(parents=True)
            for i in range(count):
                Image.fromarray(random.integers(0, 256, (8, 8), dtype=np.uint8)).save(place / f"{i} '.png")
    before = {entry.name for entry in folder.iterdir()}
    snakemake(folder)
    return around, folder, before


def test_odd_names_of_folders_and_labels_run_no_command_and_leave_no_file_elsewhere(world):
    around, folder, before = world
    assert {entry.name for entry in around.iterdir()} == {ODD}
    assert {entry.name for entry in folder.iterdir()} - before == {"results", ".snakemake"}
    assert not [file for file in folder.rglob("x?") if file.is_file()]
    page = (folder / "results/tiny/index.html").read_text()
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert" not in page
    assert "\\input" not in (folder / TABLE.replace(".csv", ".tex")).read_text()
    assert "Nothing to be done" in snakemake(folder, "-n").stderr + snakemake(folder, "-n").stdout


def test_metrics_that_were_damaged_fail_the_collection_with_their_path(world):
    _, folder, _ = world
    file = folder / FB / "metrics.json"
    content = file.read_text()
    assert '"sessions": 1' in content
    file.write_text(content.replace('"sessions": 1', '"sessions": 2'))
    done = snakemake(folder, check=False)
    assert done.returncode == 1
    assert f"error: {FB}/metrics.json: does not match its checksum" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not (folder / "results/tiny/frames/geiping2022_runs.csv").exists()
    # As the line says.
    file.unlink()
    snakemake(folder)
    assert (folder / TABLE).exists()


def in_namespace(folder, mount, command):
    """Run a command where `mount` has been done, seen by nobody else; skips where users may not."""
    enter = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    try:
        subprocess.run([*enter, "mount -t tmpfs disk /mnt"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this system lets users mount nothing, not even in a namespace of their own")
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(
        [*enter, f'{mount} && exec "$@"', "sh", *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )  # fmt: skip


def test_a_table_on_a_full_disk_is_one_line_and_not_half_written(world):
    _, folder, _ = world
    mount = "mount -t tmpfs -o size=8k disk results/tiny/tables && { head -c 9000 /dev/zero > results/tiny/tables/filler; true; }"
    command = [sys.executable, "-m", "snakemake", "--cores", "1", TABLE, "--configfile", "tiny.yaml"]
    listing = ["sh", "-c", '"$@"; code=$?; ls results/tiny/tables; exit $code', "sh", *command]
    done = in_namespace(folder, mount, listing)
    assert done.returncode == 1
    assert f"error: {TABLE}: cannot be written (No space left on device)" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert done.stdout.split()[-1] == "filler"
    assert (folder / TABLE).exists()


def test_inputs_of_the_future_are_refused_by_snakemake_and_never_mixed(world):
    _, folder, _ = world
    whole = results(folder / FB)
    data = list((folder / "results/data/mine").glob("*.*"))
    for file in data:
        os.utime(file, (time.time() + 86400,) * 2)
    done = snakemake(folder, f"{FB}/metrics.json", "--forcerun", "train", check=False)
    assert done.returncode == 1
    assert "has older modification time" in done.stdout + done.stderr
    assert "clock skew" in done.stdout + done.stderr
    assert not (folder / FB / "metrics.json").exists()
    for file in data:
        os.utime(file)
    snakemake(folder, f"{FB}/metrics.json")
    assert_equal_results(whole, results(folder / FB))


def begin(folder, *arguments):
    """Start Snakemake on the long run, and hold it and its training still after the first checkpoint."""
    command = [sys.executable, "-m", "snakemake", "--cores", "1", *arguments, "--configfile", "long.yaml"]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    with open(folder / "results/begun.log", "w") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
    while not (folder / FB / "checkpoint.safetensors").exists():
        assert process.poll() is None, (folder / "results/begun.log").read_text()
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGSTOP)
    return process


@pytest.mark.slow
def test_two_at_once_and_one_that_is_killed_lose_nothing(world):
    _, folder, _ = world
    (folder / "long.yaml").write_text(yaml.safe_dump(LONG))
    target, in_use = f"{FB}/metrics.json", f"error: {FB}: another process is training in this folder; wait for it"
    long = ["snakemake", "--cores", 1, target, "--configfile", "long.yaml"]
    first = begin(folder, target)
    second = run(long, folder, check=False)
    assert second.returncode == 1
    assert "Directory cannot be locked" in second.stdout + second.stderr
    # By hand, past Snakemake's lock.
    by_hand = [
        "whysgd",
        "train",
        "geiping2022/fb",
        "--configfile",
        "long.yaml",
        "--data",
        "results/data/mine",
        "--out",
        FB,
    ]
    by_hand = run(by_hand, folder, check=False)
    assert by_hand.returncode == 1
    assert by_hand.stderr.startswith(in_use)
    os.killpg(first.pid, signal.SIGCONT)
    assert first.wait(120) == 0
    whole = results(folder / FB)
    # Killed, Snakemake leaves its lock, and the training that goes on without it.
    first = begin(folder, target, "--forcerun", "train")
    first.send_signal(signal.SIGKILL)
    first.wait()
    second = run(long, folder, check=False)
    assert "Directory cannot be locked" in second.stdout + second.stderr
    run([*long[:4], "--unlock", *long[4:]], folder)
    second = run(long, folder, check=False)
    assert second.returncode == 1
    assert in_use in second.stdout + second.stderr
    # Unless it is killed as well.
    os.killpg(first.pid, signal.SIGKILL)
    run(long, folder)
    assert_equal_results(whole, results(folder / FB))
