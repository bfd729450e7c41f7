"""Blocks split over processes, under a real torchrun with gloo."""

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
import torch
from conftest import HUNG, ROOT, make_spec
from test_loop import results

from whysgd.study.registry import make
from whysgd.training.ranks import Ranks

EXACT = make("penalty", "gradient_norm", block_strength=0.5, acc_strength=0.3, variant="exact")
# 23 images in blocks of 5: five blocks, which neither two nor three ranks share evenly, the last one smaller.
RUNS = {
    # It stops after its fifth step.
    "exact penalty, early stop": make_spec(penalty=EXACT, epochs=6, evaluations=6, stop_accuracy=0.0, stop_after=5),
    "sampled penalty": make_spec(penalty=make("penalty", "average_jacobian", strength=0.01, sample=8), epochs=4),
    "early stop of macro-batches": make_spec(penalty=None, batch=15, epochs=6, evaluations=6, stop_accuracy=0.0),
    "macro-batch": make_spec(penalty=None, batch=15, epochs=3, averaging="historical"),
}


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_every_block_has_one_rank(size):
    shares = [range(*Ranks(rank, size).share(10, 15)) for rank in range(size)]
    assert [block for own in shares for block in own] == list(range(10, 15))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def command(spec, data, out, ranks):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)] if ranks > 1 else []
    arguments = ["--spec", json.dumps(spec.to_dict()), "--data", data, "--out", out, "--checkpoint-seconds", "0.001"]
    return [sys.executable, *launcher, "-m", "whysgd", "train", *map(str, arguments)]


def start(spec, data, out, ranks):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command(spec, data, out, ranks), cwd=ROOT, env=environment, **pipes)


def finish(process):
    _, errors = process.communicate(timeout=HUNG)
    assert process.returncode == 0, errors


def assert_close(first, second):
    assert first[0][0]["steps"] == second[0][0]["steps"]
    for name, tensor in first[2].items():
        torch.testing.assert_close(tensor, second[2][name], rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


FAST = "exact penalty, early stop"


@pytest.mark.parametrize(
    "spec", [pytest.param(spec, id=name, marks=[pytest.mark.slow] * (name != FAST)) for name, spec in RUNS.items()]
)
def test_two_and_three_ranks_end_where_one_does(data, tmp_path, spec):
    for ranks in (1, 2, 3):
        finish(start(spec, data, tmp_path / str(ranks), ranks))
    for ranks in (2, 3):
        assert_close(results(tmp_path / "1"), results(tmp_path / str(ranks)))
    metrics = results(tmp_path / "1")[0][0]
    assert metrics["stopped_at_accuracy"] == spec.stop_accuracy
    assert spec.stop_after == 1 or metrics["steps"] == spec.stop_after


def test_a_rank_that_dies_takes_the_run_down_and_another_number_of_ranks_continues(data, tmp_path):
    spec = make_spec(penalty=None, epochs=200, evaluations=2, lr=0.05)
    process = start(spec, data, tmp_path / "cut", 2)
    checkpoint = tmp_path / "cut/checkpoint.safetensors"
    while process.poll() is None and not checkpoint.exists():
        time.sleep(0.01)
    workers = [p for p in psutil.Process(process.pid).children(recursive=True) if "whysgd" in p.cmdline()]
    assert len(workers) == 2
    last = next(p for p in workers if p.environ().get("RANK") == "1")
    last.send_signal(signal.SIGKILL)
    _, errors = process.communicate(timeout=HUNG)
    assert process.returncode != 0
    assert "another rank has ended; start again to continue" in errors or "SIGKILL" in errors
    assert not (tmp_path / "cut/metrics.json").exists()
    finish(start(spec, data, tmp_path / "cut", 3))
    finish(start(spec, data, tmp_path / "whole", 1))
    cut, whole = results(tmp_path / "cut"), results(tmp_path / "whole")
    assert cut[0][0]["steps"] == whole[0][0]["steps"] == 200
    first, second = (torch.cat([t.double().flatten() for t in part[2].values()]) for part in (cut, whole))
    assert (first - second).norm() < 0.02 * second.norm()
    assert json.loads((tmp_path / "cut/metrics.json").read_text())["sessions"] == 2
