"""kill -9 of training at random moments: among its steps, its checkpoints and its results."""

import multiprocessing
import os
import random
import time
from contextlib import redirect_stderr
from pathlib import Path

import pytest
from conftest import HUNG, ROOT, folder_of, make_dataset, make_spec
from test_loop import assert_equal_results, results

from whysgd.data.build_store import build_store
from whysgd.study.registry import make
from whysgd.study.spec import NoiseProbe, RunSpec, StoredCopies
from whysgd.training.norm_log import norms_csv

KILLS = 20
COPIES = StoredCopies(copies=3, crop_padding=2, flip=True, seed=5)
SGD = make_spec(batch=5, penalty=None, clip=None, augment=None, epochs=30)
# The runs of one job: with a penalty, on stored copies, with grafted norms, several seeds with the gradient noise.
JOBS = {
    "full batch": [make_spec(epochs=40)],
    "stored copies": [SGD.replace(store=COPIES, epochs=30)],
    "grafted norms": [SGD.replace(transform=make("transform", "exter_graft", reference="other"), epochs=30)],
    "several seeds": [SGD.replace(model="fc_d2_w4", noise=NoiseProbe(points=4), seed=seed) for seed in range(2)],
}


@pytest.fixture(scope="module")
def forkserver():
    """Processes that have torch loaded when they start, so that a life takes a fraction of a second."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["test_kills", "whysgd.training.loop"])
    with pytest.MonkeyPatch.context() as patch:
        # The server does not know this process's path, and would keep to itself that it could not load anything.
        patch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{ROOT / 'tests'}")
        first = context.Process(target=int)
        first.start()
        first.join()
    return context


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A data set, its stored copies, and a log of gradient norms."""
    folder, dataset = tmp_path_factory.mktemp("inputs"), make_dataset()
    folder_of(dataset, folder / "data")
    build_store(dataset, COPIES, folder / "store.lmdb")
    (folder / "norms.csv").write_text(norms_csv({3: [1 + step % 7 / 10 for step in range(1, 1000)]}))
    return folder


def live(specs: list[RunSpec], inputs: Path, out: Path, begun) -> None:
    """Train, with a checkpoint after every step, which takes longer than the step."""
    import torch

    from whysgd.training.loop import Options, train

    torch.set_num_threads(1)
    # What was written outlives a kill without it, and a disk that many wait for would be all that is killed in.
    os.fsync = lambda descriptor: None
    begun.set()
    with open(os.devnull, "w") as nothing, redirect_stderr(nothing):
        store = inputs / "store.lmdb" if specs[0].store else None
        norms = [inputs / "norms.csv"] if specs[0].reference else []
        train(specs, inputs / "data", out, Options(checkpoint_seconds=1e-9), store, norms)


def live_once(forkserver, specs, inputs, out, seconds=None) -> float | None:
    """One life, killed after so many seconds; how many it had, or None if it was killed."""
    begun = forkserver.Event()
    process = forkserver.Process(target=live, args=(specs, inputs, out, begun))
    process.start()
    assert begun.wait(HUNG)
    start = time.monotonic()
    process.join(seconds)
    if process.is_alive():
        process.kill()
        process.join()
        return None
    assert process.exitcode == 0
    return time.monotonic() - start


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name != "several seeds")) for name in JOBS]
)
def test_a_job_killed_at_20_random_moments_ends_with_the_same_bits(forkserver, inputs, tmp_path, name):
    specs, moments, kills, jobs = JOBS[name], random.Random(0), 0, 0
    whole = tmp_path / "whole"
    life = live_once(forkserver, specs, inputs, whole)
    while kills < KILLS:
        # A job that comes to its end is compared, and another one begun.
        cut, deaths = tmp_path / f"cut-{jobs}", 0
        # Longer and longer, so that every job gets to its end on a machine that is busy.
        while live_once(forkserver, specs, inputs, cut, moments.uniform(0, life * (1 + deaths / 10) / 2)) is None:
            deaths += 1
        assert_equal_results(results(whole), results(cut))
        # What a killed process was writing is not mistaken for a file.
        left = {file.name for file in cut.iterdir()} - {file.name for file in whole.iterdir()}
        assert all(name.startswith(".") and ".tmp" in name for name in left), left
        kills, jobs = kills + deaths, jobs + 1
