"""The workflow on a real Slurm, of Debian's packages, started on this machine; `make test-slurm` runs these.

Whatever befalls a job, its results are those of an undisturbed run, bit for bit. The cases of this file run side by
side; each has a copy of the project of its own.
"""

import copy
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest
from conftest import copy_with
from conftest import run as run_here
from miniature import TINY
from slurm.cluster import cluster, node_states, run, wait_for
from slurm.project import PATIENCE, Project, pending
from test_loop import assert_equal_results, results

from whysgd.files import read_json

pytestmark = pytest.mark.slurm

# The main table of the default run, one seed.
MINI = {
    "papers": ["geiping2022"], "seeds": [0], "measures": [],
    "scales": {"mini": {"tables": {"geiping2022": ["main"]}}},
}  # fmt: skip
# A run of some ten seconds that saves every half second.
LONGER = copy.deepcopy(TINY) | {"device": "cpu", "checkpoint_seconds": 0.5, "cluster": {"memory_mb": 1000}}
LONGER["scales"]["tiny"] |= {"time_divisor": 10, "seeds": [1]}
METRICS = "results/tiny/runs/geiping2022/fb-practice/seeds-1/metrics.json"
TARGET = ["--workflow-profile", "profiles/slurm", METRICS]
# A job of a minute, which is told five seconds before its end; Slurm looks every half minute, and rounds down.
MINUTE = {**LONGER, "cluster": {"margin": 1, "minutes": 1, "memory_mb": 1000}}
EARLY = ("USR1@120", "USR1@5")


@pytest.fixture(scope="module")
def environment():
    with cluster() as variables:
        yield variables


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The results of the run of the faults, made here, and the data set it was trained on."""
    folder = copy_with(tmp_path_factory.mktemp("undisturbed") / "project", LONGER)
    run_here(["snakemake", "--cores", 2, METRICS, "--configfile", "tiny.yaml"], folder)
    assert read_json(folder / METRICS)["sessions"] == 1
    return folder


@pytest.fixture(scope="module")
def cases(environment, undisturbed, tmp_path_factory):
    """All cases, under way: what each returns, or raises, is there when it is asked for."""

    def project(name, config=LONGER, data=undisturbed / "results/data", **options):
        return Project(tmp_path_factory.mktemp(name) / "project", config, environment, data, **options)

    with ThreadPoolExecutor() as threads:
        yield {
            "whole": threads.submit(whole_pipeline, project("whole", MINI, None)),
            "cancelled": threads.submit(cancelled, project("cancelled")),
            "limit": threads.submit(time_limit, project("limit", MINUTE, edits=[EARLY])),
            "killed": threads.submit(killed_snakemake, project("killed")),
            "node": threads.submit(failed_node, project("node", edits=[("'cpu'", "'frail'"), ("'gpu'", "'frail'")])),
        }


def whole_pipeline(project):
    return project, project.finish(project.start("--profile", "slurm"))


def cancelled(project):
    snakemake = project.start(*TARGET)
    project.wait_until_saved(METRICS)
    job = project.job()
    run(["scancel", job], project.environment)
    return project, project.finish(snakemake), project.details(job)


def time_limit(project):
    """The training is held up, as by a file system that hangs, until Slurm has warned it."""
    snakemake = project.start(*TARGET)
    training = project.wait_until_saved(METRICS)
    job = project.job()
    with suppress(ProcessLookupError):
        os.kill(training, signal.SIGSTOP)
    # On a slow machine it may have been warned, and have ended, already.
    there = Path(f"/proc/{training}")
    assert wait_for(lambda: pending(training, signal.SIGUSR1) or not there.exists(), PATIENCE), project.told()
    with suppress(ProcessLookupError):
        os.kill(training, signal.SIGCONT)
    return project, project.finish(snakemake), project.details(job)


def killed_snakemake(project):
    """Its job goes on, and is held up until the job of the next Snakemake is there."""
    first = project.start(*TARGET)
    training = project.wait_until_saved(METRICS)
    first.kill()
    first.wait()
    os.kill(training, signal.SIGSTOP)
    old = project.job()
    refused = project.start(*TARGET)
    assert refused.wait(PATIENCE) != 0
    run_here(["snakemake", "--unlock", "--configfile", "tiny.yaml"], project.folder)
    second = project.start(*TARGET)
    log = project.folder / "results/tiny/logs/train/geiping2022/fb-practice/seeds-1.log"
    waiting = wait_for(lambda: log.exists() and "waiting for it" in log.read_text(), PATIENCE)
    os.kill(training, signal.SIGCONT)
    assert waiting, project.told()
    return project, project.finish(second), project.details(old)


def failed_node(project):
    """The node is set down under its job, which Slurm starts again on the other one; then it is set back."""
    snakemake = project.start(*TARGET)
    training = project.wait_until_saved(METRICS)
    job = project.job()
    node = project.details(job)["NodeList"]
    control = ["scontrol", "update", f"nodename={node}"]
    run([*control, "state=down", "reason=test"], project.environment)
    down = wait_for(lambda: node_states(project.environment)[node] == "down", 30)
    ended = wait_for(lambda: training not in project.training(), PATIENCE)
    again = wait_for(lambda: project.jobs("R") and project.details(job)["NodeList"] != node, PATIENCE)
    run([*control, "state=resume"], project.environment)
    back = wait_for(lambda: node_states(project.environment)[node] in ("idle", "mix", "alloc"), 60)
    text = project.finish(snakemake)
    return project, text, project.details(job), (down, ended, again, back)


def same_as_undisturbed(project, undisturbed, sessions):
    assert_equal_results(results((undisturbed / METRICS).parent), results((project.folder / METRICS).parent))
    assert read_json(project.folder / METRICS)["sessions"] in sessions


def test_a_job_that_is_cancelled_is_submitted_again_and_continues(cases, undisturbed):
    project, text, job = cases["cancelled"].result()
    assert job["JobState"] == "CANCELLED"
    assert text.count("has been submitted with SLURM jobid") == 2
    assert "Trying to restart job" in text
    same_as_undisturbed(project, undisturbed, {2})


def test_a_job_whose_time_is_up_is_warned_and_saves_and_the_next_has_more_time(cases, undisturbed):
    project, text, job = cases["limit"].result()
    # It ended by itself, before Slurm had to. On a slow machine a minute may pass before there is anything to save.
    assert job["JobState"] == "FAILED"
    limits = [job["limit"] for job in project.jobs()]
    assert limits[:2] == ["1:00", "2:00"]
    assert "ended by SIGUSR1, saved; run it again to continue" in text  # of the log, which Snakemake shows
    same_as_undisturbed(project, undisturbed, {2})


def test_after_snakemake_was_killed_the_next_one_waits_for_the_job_that_goes_on(cases, undisturbed):
    project, text, old = cases["killed"].result()
    assert "LockException" in text
    assert old["JobState"] == "COMPLETED"
    same_as_undisturbed(project, undisturbed, {1})


def test_a_job_whose_node_fails_is_started_again_by_slurm_and_continues(cases, undisturbed):
    project, text, job, steps = cases["node"].result()
    assert steps == (True, True, True, True)
    assert (job["JobState"], job["Restarts"]) == ("COMPLETED", "1")
    # The same job, as far as Snakemake knows: none of its retries was used.
    assert text.count("has been submitted with SLURM jobid") == 1
    same_as_undisturbed(project, undisturbed, {2})


def test_the_mini_pipeline_gives_what_it_gives_here(cases, tmp_path):
    project, _ = cases["whole"].result()
    here = copy_with(tmp_path / "project", MINI)
    run_here(["snakemake", "--cores", 2, "--configfile", "tiny.yaml"], here)
    runs = sorted(file.parent.relative_to(here) for file in here.glob("results/mini/runs/*/*/*/metrics.json"))
    assert len(runs) == 7
    for place in runs:
        assert_equal_results(results(here / place), results(project.folder / place))
    table = "results/mini/tables/geiping2022_main.csv"
    pd.testing.assert_frame_equal(pd.read_csv(here / table), pd.read_csv(project.folder / table))
    made = {str(file.relative_to(here)) for file in here.glob("results/mini/[tfci]*/**/*") if file.is_file()}
    assert len(made) > 8
    assert [name for name in made if not (project.folder / name).exists()] == []
    # Trained on the GPUs' partition, with one each; drawn elsewhere, in two jobs.
    jobs = project.jobs()
    trained = [job for job in jobs if job["comment"].startswith("rule_train")]
    assert [job["partition"] for job in trained] == ["gpu"] * 7
    assert {project.details(job["number"])["TresPerJob"] for job in trained} == {"gres:gpu:1"}
    others = sorted(job["comment"].split("_")[1] for job in jobs if job["partition"] == "cpu")
    assert others == ["build", "page", "paper"]
