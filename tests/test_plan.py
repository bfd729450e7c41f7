"""The plan of a configuration: what it counts, and what of it is there."""

import re

import pytest
import yaml
from conftest import ROOT, error_of, python
from miniature import TINY

from whysgd.files import write_json
from whysgd.results.machine import processor_name
from whysgd.results.paths import METRICS, batch_name, measures_folder, run_folder
from whysgd.study import plan
from whysgd.study.config import load_config
from whysgd.study.cost import load_device
from whysgd.study.plan import plan_text, sums_of
from whysgd.study.workflow import Study


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A configuration of 7 runs with two seeds each, and an empty folder to be in."""
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump({**TINY, "measures": ["accuracy_gap", "fisher"]}))
    config = load_config([tmp_path / "tiny.yaml"])
    monkeypatch.chdir(tmp_path)
    return config


def finish(run, *seeds):
    write_json(run_folder("tiny", "geiping2022", run) / batch_name(seeds) / METRICS, {})


def test_the_first_line_is_one_to_decide_on(tiny, monkeypatch):
    finish("sgd", 0, 1)
    finish("fb", 1)
    monkeypatch.setattr(plan, "device_here", lambda device: "AMD EPYC")
    left = sums_of(Study(tiny, load_device("epyc")))[1]["geiping2022", "sgd"].left
    write_json(measures_folder("tiny", "geiping2022", "sgd", [0, 1]) / "all.json", [])
    assert left > sums_of(Study(tiny, load_device("epyc")))[1]["geiping2022", "sgd"].left == 0
    first, _, header, *_ = plan_text(tiny).splitlines()
    assert re.fullmatch(
        r"14 runs of 1 paper: [\d.]+ min on this device \(AMD EPYC, 1 thread\), 2 MB of disk; 3 are done, which leaves [\d.]+ \w+",
        first,
    )
    assert header.split() == ["table", "runs", "done", "train", "measure", "landscapes", "disk"]


def test_a_machine_that_was_not_measured_is_told(tiny, monkeypatch):
    monkeypatch.setattr(plan, "device_here", lambda device: "Abacus")
    text = plan_text(tiny)
    assert "on another device (AMD EPYC, 1 thread)" in text
    assert "Abacus has not been measured: `python benchmarks/devices.py` adds it" in text
    assert "Abacus" not in plan_text(tiny, "epyc")


def test_what_is_there_stays_and_only_new_seeds_are_another_job(tiny):
    device = load_device("cpu")
    tiny["scales"]["tiny"]["seeds_per_job"] = None
    before = sums_of(Study(tiny, device))[1]["geiping2022", "sgd"]
    assert (before.runs, before.done) == (2, 0)
    finish("sgd", 0)
    after = sums_of(Study(tiny, device))[1]["geiping2022", "sgd"]
    assert (after.runs, after.done) == (2, 1)
    assert before.train < after.train <= 2 * before.train


def test_nothing_is_measured_where_no_measure_is_asked_for(tiny):
    for measures in ([], ["fisher"]):
        table = sums_of(Study({**tiny, "measures": measures}, load_device("cpu")))[0]["geiping2022/main"]
        assert (table.measure > 0) == (table.landscapes > 0) == bool(measures)


@pytest.fixture
def everything(tmp_path):
    """Files with every run as published, whichever papers the default run has."""
    papers = ["geiping2022", "novack2023", "iyer2023", "simsekli2019", "seminar"]
    (tmp_path / "all.yaml").write_text(yaml.safe_dump({"papers": papers}))
    return [str(ROOT / "config/paper.yaml"), str(tmp_path / "all.yaml")]


def test_runs_that_two_tables_name_are_counted_once_and_data_are(everything):
    tables, parts = sums_of(Study(load_config(everything), load_device("cpu")))
    runs = sum(part.runs for part in parts.values())
    assert sum(table.runs for table in tables.values()) == runs + 131
    assert runs == 1598
    assert parts["data", "cifar10"].disk * 2**20 == 60_000 * (3072 + 8)
    store = next(part for key, part in parts.items() if key[:2] == ("store", "cifar10"))
    assert store.disk * 2**20 == 10 * 50_000 * 3072


def test_the_command_prints_it(everything, capsys):
    done = python("-m", "whysgd", "plan", "--configfile", *everything, "--device", "epyc")
    whose = "this" if processor_name() == "AMD EPYC" else "another"
    assert done.stdout.startswith("1,598 runs of 5 papers: ")
    assert f" h on {whose} device (AMD EPYC, 1 thread), " in done.stdout
    assert error_of(capsys, "plan", "--device", "abacus").startswith("error: device 'abacus': allowed: AMD EPYC")
