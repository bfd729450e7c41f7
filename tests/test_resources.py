"""What jobs ask of a scheduler, as Snakemake plans it; nothing here needs one. tests/test_slurm.py has a real one."""

import copy
import re

import pytest
import yaml
from conftest import ROOT, copy_with
from miniature import OVERLAY, TINY, dry_run, planned_jobs, write_config

pytestmark = pytest.mark.workflow
METRICS = "results/tiny/runs/geiping2022/fb-practice/seeds-0-1/metrics.json"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return copy_with(tmp_path_factory.mktemp("resources") / "project", TINY)


def asked(folder, *arguments, overlay=OVERLAY) -> dict[str, dict]:
    """The resources of the jobs that a dry run would start, by rule."""
    return {job["rule"]: job["resources"] for job in planned_jobs(folder, METRICS, *overlay, *arguments)}


@pytest.mark.parametrize("call", [["--profile", "slurm"], ["--workflow-profile", "profiles/slurm"]], ids=" ".join)
def test_jobs_go_to_the_partition_of_their_rule_however_the_profile_is_called(folder, call):
    jobs = asked(folder, *call)
    assert (jobs["train"]["slurm_partition"], jobs["train"]["gpu"]) == ("gpu", "1")
    assert jobs["build_dataset"]["slurm_partition"] == "cpu"
    assert jobs["train"]["slurm_extra"] == jobs["build_dataset"]["slurm_extra"] == "--signal=USR1@120"
    gpus = {device: asked(folder, *call, "--config", f"device={device}")["train"]["gpu"] for device in ("cpu", "cuda")}
    assert gpus == {"cpu": "0", "cuda": "1"}


def test_the_names_that_a_site_edits_are_taken_as_they_are(folder):
    profile = folder / "profiles/slurm/config.yaml"
    text = edited = profile.read_text()
    # Evaluated, these are functions and a number.
    for old, new in (("account: \"''", "account: \"'2024-15'"), ("'cpu'", "'all'"), ("'gpu'", "'any'")):
        assert old in edited
        edited = edited.replace(old, new)
    profile.write_text(edited)
    jobs = asked(folder, "--profile", "slurm")
    profile.write_text(text)
    assert {job["slurm_account"] for job in jobs.values()} == {"2024-15"}
    assert (jobs["build_dataset"]["slurm_partition"], jobs["train"]["slurm_partition"]) == ("all", "any")


def test_time_and_memory_grow_with_what_a_run_is_predicted_to_take_up_to_the_longest(folder):
    def times(**scale):
        config = copy.deepcopy(TINY) | {"device": "cpu", "cluster": {"minutes": 7, "longest": 90}}
        config["scales"]["tiny"] |= scale
        job = asked(folder, overlay=write_config(folder, "other.yaml", config))["train"]
        return int(job["runtime"]), int(job["mem_mb"])

    assert times() == (7, 4000)
    longer, memory = times(time_divisor=1)
    assert 7 < longer < 90
    assert memory == 4000
    longest, memory = times(time_divisor=1, datasets={"*": "cifar10"}, models={"*": "resnet18"})
    assert longest == 90
    assert memory > 4000


def test_without_a_profile_nothing_is_asked_of_a_partition_and_nobody_waits(folder):
    job = asked(folder)["train"]
    assert "slurm_partition" not in job
    assert job["wait_seconds"] == "0"


def test_threads_above_the_profiles_cores_are_told(folder):
    _, text = dry_run(folder, METRICS, *OVERLAY, "--profile", "slurm", "--config", "threads=4")
    assert "warning: threads = 4: a job gets at most --cores, 2 here" in text


def test_profiles_have_what_the_default_has_and_group_every_rule_that_draws_or_collects():
    files = {name: ROOT / f"profiles/{name}/config.yaml" for name in ("default", "slurm", "workstation")}
    profiles = {name: yaml.safe_load(file.read_text()) for name, file in files.items()}
    # The default is loaded beside `--profile slurm`, and goes before it: where both have a key they must agree.
    for name in ("slurm", "workstation"):
        different = {key for key, value in profiles["default"].items() if profiles[name].get(key) != value}
        assert different <= ({"cores"} if name == "workstation" else set())
    assert (ROOT / "slurm").resolve() == (ROOT / "profiles/slurm").resolve()
    grouped = dict(entry.split("=") for entry in profiles["slurm"]["groups"])
    text = "\n".join(file.read_text() for file in ROOT.glob("rules/*.smk"))
    scripts = set(re.findall(r"^rule (\w+):\n(?:(?!rule ).*\n)*?    script:", text, re.MULTILINE))
    assert {"make_table", "plot_figure", "write_page"} <= scripts
    assert set(grouped) == scripts - {"collect_records"}
