"""`python -m whysgd run`: the workflow's jobs without Snakemake, against the workflow itself."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest
import yaml
from conftest import copy_with, run
from filelock import FileLock
from test_loop import assert_equal_results, results
from test_workflow import planned, snakemake

from whysgd.config import load_config
from whysgd.errors import UserError
from whysgd.files import read_json
from whysgd.papers import scaled_spec
from whysgd.runner.command import _slots
from whysgd.runner.plan import STOPPED, jobs_of, settle, wanted_runs
from whysgd.runner.pool import Limits, run_jobs
from whysgd.runner.probe import best_number

# Stored copies, another run's gradient norms, and seeds that share a job.
WORLD = {
    "scale": "tiny", "papers": ["geiping2022", "novack2023", "simsekli2019"], "evaluations": 3, "measures": ["accuracy_gap", "fisher"],
    "checkpoint_seconds": 0.05,
    "scales": {"tiny": {
        "seeds": [0, 1], "datasets": {"*": "digits"}, "models": {"*": "resnet_mini"}, "time_divisor": 300, "block_divisor": 8, "copies_divisor": 5,
        "tables": {"geiping2022": ["fixed_dataset"], "novack2023": ["grafting"], "simsekli2019": ["mnist"]},
        "table_seeds": {"geiping2022": {"fixed_dataset": 1}},
        "augmentation": {"crop_padding": 1, "flip": False},
        "skip": {
            "geiping2022": ["noaug-sgd", "noaug-sgd-star", "noaug-fb-strong-reg", "x10-sgd", "x10-fb-strong-reg"],
            "novack2023": ["resnet18-cifar100", "vgg16-cifar100", "vgg16-cifar10", "resnet18-cifar10.ngd", "resnet18-cifar10.iter-graft"],
        },
        "grids": {"simsekli2019": {"mnist": {"depth": [2], "width": [4, 8], "loss": ["linear_hinge"]}}},
        "rules_of": {
            "novack2023": {"models": {"*": "fc_d2_w4"}, "time_divisor": 5000, "block_divisor": 32},
            "simsekli2019": {"models": {"*": "same"}, "time_divisor": 5000, "block_divisor": 6.25},
        },
        "measuring": {"together": True, "fisher": {"first": 10}},
    }},
}  # fmt: skip
OVERLAY = ["--configfile", "tiny.yaml"]
RUNS = 2 + 3 * 2 + 2 * 2


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return copy_with(tmp_path_factory.mktemp("runner") / "project", WORLD)


def whysgd_run(folder, *arguments):
    return run(["whysgd", "run", *OVERLAY, *arguments], folder, check=False)


@pytest.fixture(scope="module")
def without_lmdb(project):
    """What the first call says, on a machine that has neither Snakemake nor lmdb."""
    hook = project / "sitecustomize.py"
    hook.write_text("import sys\nsys.modules['snakemake'] = sys.modules['lmdb'] = None\n")
    done = whysgd_run(project)
    hook.unlink()
    return done


@pytest.fixture(scope="module")
def finished(project, without_lmdb):
    return whysgd_run(project)


def test_what_lacks_a_package_fails_alone_and_is_named(project, without_lmdb):
    assert without_lmdb.returncode == 1, without_lmdb.stderr
    lines = without_lmdb.stdout.splitlines()
    assert f"{RUNS - 1} of {RUNS} runs trained" in lines
    assert f"{RUNS - 1} of {RUNS} runs measured" in lines
    assert "  not started: 2 jobs" in lines
    why = "stored copies need the package lmdb, which is not installed"
    name = "digits/x2-crop1-seed0"
    assert f"  failed: build stored copies {name}: error: {why} (log: results/stores/{name}.log)" in lines
    assert not (project / "results/tiny/runs/geiping2022/x10-fb").exists()


def test_the_next_call_does_what_is_missing_and_the_one_after_nothing(project, finished):
    assert finished.returncode == 0, finished.stdout
    assert finished.stdout.splitlines()[-2:] == [
        f"{RUNS} of {RUNS} runs trained ({RUNS - 1} of them before)",
        f"{RUNS} of {RUNS} runs measured ({RUNS - 1} of them before)",
    ]
    times = {file: file.stat().st_mtime_ns for file in project.glob("results/**/*")}
    again = whysgd_run(project)
    assert (again.returncode, len(again.stdout.splitlines())) == (0, 2)
    assert {file: file.stat().st_mtime_ns for file in project.glob("results/**/*")} == times


def test_snakemake_accepts_the_results_and_makes_the_same_ones(project, finished, tmp_path):
    assert finished.returncode == 0
    jobs = planned(project, *OVERLAY)
    assert jobs["collect_runs"] == 3
    assert not {name for name in jobs if name.startswith(("train", "measure", "build"))}, jobs
    place = "results/tiny"
    folders = sorted(
        file.parent.relative_to(project / place / "runs") for file in project.glob(f"{place}/runs/*/*/*/metrics.json")
    )
    assert len(folders) == RUNS
    targets = [f"{place}/measures/{folder}/{name}.json" for folder in folders for name in WORLD["measures"]]
    command = ["-s", project / "Snakefile", "-d", tmp_path, *targets, "--configfile", project / "tiny.yaml"]
    snakemake(project, *command)
    for folder in folders:
        assert_equal_results(results(project / place / "runs" / folder), results(tmp_path / place / "runs" / folder))
        names = {file.name for file in (project / place / "runs" / folder).iterdir()}
        assert names == {file.name for file in (tmp_path / place / "runs" / folder).iterdir()}
    for target in targets:
        own, other = (read_json(root / target) for root in (project, tmp_path))
        assert all(own[key] == other[key] for key in ("quantities", "options", "spec_digest", "code_digest")), target


def test_what_changed_is_done_again_and_nothing_else(project, finished):
    changed = yaml.safe_load(yaml.safe_dump(WORLD))
    changed["scales"]["tiny"]["measuring"]["fisher"]["first"] = 12
    (project / "other.yaml").write_text(yaml.safe_dump(changed))
    runs = ["--runs", "simsekli2019/*w8", "--seed", 1, "--configfile", "other.yaml"]
    kept = project / "results/tiny/measures/simsekli2019/mnist-linear_hinge-d2-w8/seed-1/accuracy_gap.json"
    before = kept.stat().st_mtime_ns
    done = whysgd_run(project, *runs)
    assert "1 of 1 runs trained (1 of them before)" in done.stdout
    assert "[2/3] simsekli2019/mnist-linear_hinge-d2-w8 seed 1: measured" not in done.stdout
    assert "[3/3] simsekli2019/mnist-linear_hinge-d2-w8 seed 1: measured" in done.stdout
    assert kept.stat().st_mtime_ns == before
    assert read_json(kept.with_name("fisher.json"))["options"]["first"] == 12
    # Snakemake's own settings again.
    assert "1 of 1 runs measured" in whysgd_run(project, *runs[:-2]).stdout


def test_what_is_handed_over_to_snakemake_is_as_its_own(project, finished):
    paper, times = (
        project / "papers/simsekli2019.yaml",
        {file: file.stat().st_mtime_ns for file in project.glob("results/tiny/runs/**/*")},
    )
    text = paper.read_text()
    cell = "      cells: # also in the table of iterations\n"
    paper.write_text(text.replace(cell, f"{cell}        mnist-linear_hinge-d2-w8: {{lr: 0.05}}\n"))
    # Without a record of what they were made of, files look good as long as they are not older than others.
    assert "train_seeds" not in planned(project, *OVERLAY)
    paper.write_text(text)
    done = whysgd_run(project, "--hand-over")
    assert (done.returncode, done.stdout) == (0, "22 of 22 jobs are finished and handed over to Snakemake\n"), (
        done.stderr
    )
    assert {file: file.stat().st_mtime_ns for file in times} == times
    assert not {name for name in planned(project, *OVERLAY) if name.startswith(("train", "measure", "build"))}
    paper.write_text(text.replace(cell, f"{cell}        mnist-linear_hinge-d2-w8: {{lr: 0.05}}\n"))
    jobs = planned(project, *OVERLAY)
    assert (jobs["train_seeds"], jobs["measure_seeds"]) == (1, 1)
    assert not {"train", "train_grafted", "measure"} & set(jobs)
    # What this command makes after an edit it can hand over, too.
    done = whysgd_run(project, "--hand-over")
    assert (done.returncode, done.stdout) == (3, "20 of 22 jobs are finished and handed over to Snakemake\n")
    assert whysgd_run(project, "--runs", "simsekli2019/*").returncode == 0
    assert whysgd_run(project, "--hand-over", "--runs", "simsekli2019/*").returncode == 0
    assert "train_seeds" not in planned(project, *OVERLAY)
    paper.write_text(text)


# A run of some seconds, one at a time.
LONG = {**WORLD, "papers": ["geiping2022"], "measures": [], "device": "cpu", "scales": {"tiny": {
    **WORLD["scales"]["tiny"], "tables": {"geiping2022": ["main"]}, "seeds": [0], "table_seeds": {}, "grids": {}, "rules_of": {},
    "skip": {"geiping2022": ["sgd", "fb", "fb-long", "fb-clip", "fb-strong-reg", "fb-practice"]}, "time_divisor": 40,
}}}  # fmt: skip


class OverWhen:
    """Limits of a time that is over when something has happened."""

    start = kill = float("inf")

    def __init__(self, happened):
        self.happened = happened

    @property
    def stop(self):
        return 0.0 if self.happened() else float("inf")


@pytest.mark.slow
def test_a_run_that_is_killed_ended_and_out_of_time_ends_with_the_same_bits(project, tmp_path, monkeypatch):
    (project / "long.yaml").write_text(yaml.safe_dump(LONG))
    command = [sys.executable, "-m", "whysgd", "run", "--configfile", str(project / "long.yaml"), "--jobs", "1"]
    environment = {**os.environ, "PYTHONPATH": str(project)}
    folder = "results/tiny/runs/geiping2022/fb-reg/seed-0"

    def begun(where, **options):
        (tmp_path / where).mkdir(exist_ok=True)
        options |= {"cwd": tmp_path / where, "env": environment, "text": True}
        return subprocess.Popen([*command, *options.pop("more", [])], stdout=subprocess.PIPE, **options)

    assert begun("whole").wait(300) == 0
    checkpoint = tmp_path / "cut" / folder / "checkpoint.safetensors"
    endings = (signal.SIGKILL, -signal.SIGKILL, ""), (signal.SIGTERM, 128 + signal.SIGTERM, "saved at step")
    for number, code, said in endings:
        process = begun("cut")
        seen = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        while process.poll() is None and not (checkpoint.exists() and checkpoint.stat().st_mtime_ns != seen):
            time.sleep(0.01)
        process.send_signal(number)
        output, _ = process.communicate(timeout=60)
        assert (process.returncode, said in output) == (code, True), output
        assert number == signal.SIGKILL or "0 of 1 runs trained\n  stopped: train geiping2022/fb-reg" in output
        # Its job ends with it, if not at once.
        FileLock(checkpoint.with_name(".lock"), timeout=20).acquire().lock.release()
    # With no time to speak of, nothing is started; with some, it is stopped when that is over.
    process = begun("cut", more=["--budget", "1"])
    assert (process.communicate(timeout=60)[0], process.returncode) == (
        "0 of 1 runs trained\n  not started: 1 job\n",
        3,
    )
    monkeypatch.chdir(tmp_path / "cut")
    monkeypatch.setenv("PYTHONPATH", str(project))
    seen, config, said = checkpoint.stat().st_mtime_ns, load_config([project / "long.yaml"]), []
    jobs = jobs_of(config, wanted_runs(config, ["*"], None), [])
    settle(jobs)
    run_jobs(
        jobs,
        [{}],
        OverWhen(lambda: checkpoint.stat().st_mtime_ns != seen),
        False,
        lambda job, _: said.append(job.state),
    )
    assert (said, jobs[1].state) == ([STOPPED], STOPPED)
    assert begun("cut").wait(300) == 0
    assert_equal_results(*(results(tmp_path / where / folder) for where in ("whole", "cut")))


@pytest.fixture
def config(project):
    return load_config([project / "tiny.yaml"])


def test_runs_come_in_the_order_asked_for_after_those_they_graft_from(config):
    found = wanted_runs(config, ["novack2023/*exter*", "simsekli2019/*", "*"], [1])
    names = [f"{spec.run}@{spec.seed}" for spec in found]
    assert names[:2] == ["resnet18-cifar10.sb-sgd@1", "resnet18-cifar10.exter-graft@1"]
    assert names[2].startswith("mnist-linear_hinge")
    assert len(names) == len(set(names)) == 3 + 2
    assert all(found.values())  # the last pattern asks for all
    assert list(wanted_runs(config, ["*exter*"], [0]).values()) == [False, True]
    with pytest.raises(UserError, match=r"--runs 'x/\*': no such run at scale tiny; allowed: geiping2022/noaug-fb, "):
        wanted_runs(config, ["*", "x/*"], None)
    with pytest.raises(UserError, match=r"--seed 5: not a configured seed; allowed: 0, 1; others with"):
        wanted_runs(config, ["*"], [5])
    with pytest.raises(UserError, match="none of these runs has the seeds 1"):
        wanted_runs(config, ["geiping2022/*"], [1])


def test_jobs_need_what_their_rules_read(config):
    jobs = {f"{job.kind} {job.name}": job for job in jobs_of(config, wanted_runs(config, ["*"], None), ["fisher"])}
    needs = {name: [need.name for need in job.needs] for name, job in jobs.items()}
    graft = "novack2023/resnet18-cifar10"
    assert needs["train geiping2022/x10-fb seed 0"] == ["stored copies digits/x2-crop1-seed0"]
    assert needs[f"train {graft}.exter-graft seed 1"] == ["data set digits", f"{graft}.sb-sgd seed 1"]
    assert needs["measure simsekli2019/mnist-linear_hinge-d2-w4 seeds 0, 1"] == [
        "simsekli2019/mnist-linear_hinge-d2-w4 seeds 0, 1"
    ]
    order = list(jobs.values())
    assert all(order.index(need) < order.index(job) for job in order for need in job.needs)


def test_a_run_that_another_process_trains_is_left_to_it(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spec = scaled_spec(config, "geiping2022", "noaug-fb", 0)
    _, job = jobs_of(config, [spec], [])
    assert not job.is_elsewhere()
    (tmp_path / spec.folder).mkdir(parents=True)
    with FileLock(tmp_path / spec.folder / ".lock"):
        assert job.is_elsewhere()
    assert not job.is_elsewhere()


def test_slots_share_the_gpus_and_without_any_the_cores():
    variables = [slot["CUDA_VISIBLE_DEVICES"] for slot in _slots(["GPU-a", "GPU-b"], 1, 3)]
    assert variables == ["GPU-a", "GPU-b", "GPU-a"]
    assert len(_slots(["GPU-a", "GPU-b"], 1, None)) == 2
    assert _slots([], 1, 3) == [{}] * 3
    assert len(_slots([], 10_000, None)) == 1


RATES = {
    "one is best": ([10.0, 10.9], 8, 1),
    "two": ([10.0, 15.0, 16.0], 8, 2),
    "all that may be": ([10.0, 20.0, 40.0], 4, 4),
    "no memory for four": ([10.0, 20.0, None], 8, 2),
    "nothing measured": ([None], 8, 1),
}


@pytest.mark.parametrize(("rates", "most", "best"), RATES.values(), ids=RATES.keys())
def test_more_jobs_at_a_time_have_to_be_faster(rates, most, best):
    measured = dict(zip((1, 2, 4, 8), rates, strict=False))
    assert best_number(measured.__getitem__, most)[0] == best


def test_the_number_of_jobs_is_measured_on_the_first_run(project, finished):
    done = whysgd_run(
        project, "--jobs", "auto", "--runs", "*/noaug-fb", "--config", "seeds=[0,7]", "--measures", "none"
    )
    assert done.returncode == 0, done.stdout
    found = re.search(
        r"noaug-fb seed 7: 1 at a time \S+ steps/s(, 2 at a time \S+ steps/s)?; taking [12]\n", done.stdout
    )
    assert found, done.stdout
    # What was measured left nothing behind.
    metrics = read_json(project / "results/tiny/runs/geiping2022/noaug-fb/seed-7/metrics.json")
    assert (metrics["steps"], metrics["sessions"]) == (10, 1)


def test_the_end_of_a_budget_is_for_ending():
    limits = Limits.of(100.0, 60.0, 6.0)
    assert (limits.start, limits.stop, limits.kill) == (151.0, 154.0, 160.0)
    assert Limits.of(100.0, None, 0.0).kill == float("inf")


@pytest.mark.parametrize(
    ("arguments", "message"),
    {
        "measure": (["--measures", "sharpness"], "run: --measures sharpness: no such measure; allowed: none, accuracy_gap, "),
        "budget": (["--budget", "0"], "run: --budget and --lead must be above 0"),
        "lead": (["--budget", "9", "--lead", "9"], "run: --lead must be shorter than --budget"),
        "jobs": (["--jobs", "0"], "run: --jobs 0: allowed: auto, or a whole number of at least 1"),
        "setting": (["--config", "sede=1"], "--config: sede: unknown key; allowed here: "),
    }.values(),
)  # fmt: skip
def test_a_mistake_is_one_line(project, arguments, message):
    done = whysgd_run(project, *arguments)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith(f"error: {message}")
