"""The plan of a configuration: what it counts, and what of it is done."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from conftest import ROOT
from test_cost import MINI, device
from test_workflow import TINY

from whysgd.errors import UserError
from whysgd.files import write_json
from whysgd.study.codedigest import code_digest
from whysgd.study.config import load_config
from whysgd.study.plan import look, make_plan
from whysgd.study.plan_text import plan_dict, plan_text, progress_text
from whysgd.training.checkpoint import State, save_checkpoint

CODE = code_digest("whysgd.training.loop")


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A configuration, and an empty folder to be in, with what a finished run leaves: finish(run, seed, …)."""
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump({**TINY, "measures": ["accuracy_gap", "fisher"]}))
    config = load_config([tmp_path / "tiny.yaml"])
    monkeypatch.chdir(tmp_path)

    def finish(spec, code=CODE, **more):
        metrics = {
            "spec_digest": spec.digest, "code_digest": code, "device": "a device", "steps": 10, "seconds_per_step": 2.0,
            "cpu_seconds": 30.0, "engine": "eager", "threads": 1, "sessions": 1, "model_sha256": "x", **more,
        }  # fmt: skip
        write_json(f"{spec.folder}/metrics.json", metrics)

    return config, finish


def measure(spec, *names, options=None):
    folder = spec.folder.replace("/runs/", "/measures/")
    for name in names:
        code = code_digest("whysgd.measures.run", f"whysgd.measures.{name}")
        write_json(f"{folder}/{name}.json", {"code_digest": code, "model_sha256": "x", "options": options or {}})


def test_a_plan_counts_runs_once_and_sees_what_is_done(tiny):
    config, finish = tiny
    plan = make_plan(config, device(MINI))
    assert len(plan.runs) == 14
    look(plan)
    found = plan_dict(plan)
    assert (found["all"]["runs"], found["all"]["done"]) == (14, 0)
    hours = found["all"]["hours"]
    assert hours["left"] == pytest.approx(hours["train"] + hours["measure"] + hours["landscapes"])
    assert found["tables"]["geiping2022/main"]["hours"] == hours
    runs = {run: plan.runs["geiping2022", run, 0].spec for run in ("sgd", "fb", "fb-clip", "fb-reg")}
    finish(runs["sgd"])
    measure(runs["sgd"], "accuracy_gap")
    # The same with other options is measured again.
    measure(runs["sgd"], *(set(config["measures"]) - {"accuracy_gap"}), options={"other": 1})
    finish(runs["fb"], code="older")
    finish(runs["fb-clip"], spec_digest="another")
    look(plan)
    states = {run: plan.runs["geiping2022", run, 0].state for run in runs}
    assert states == {"sgd": "done", "fb": "old", "fb-clip": "old", "fb-reg": ""}
    assert plan.runs["geiping2022", "sgd", 0].measured == 0.5
    found = plan_dict(plan)
    assert (found["all"]["done"], found["all"]["old"], found["all"]["measured"]) == (1, 2, 0)
    # What it took on this device stands for what it takes, for other seeds too.
    assert [plan.runs["geiping2022", "sgd", seed].train_seconds for seed in (0, 1)] == [30.0, 30.0]
    assert plan.runs["geiping2022", "fb-reg", 0].seconds is None
    text = plan_text(plan, "a device")
    assert "2 runs were trained with other settings or code and are trained again." in text
    assert "No GPU has been measured" in text
    assert "This machine" not in text
    assert "This machine's another has not been measured" in plan_text(plan, "another")
    assert progress_text(plan).startswith("1 of 14 networks trained, 0 measured; ")


def test_a_checkpoint_is_a_part_of_a_run_and_a_damaged_one_is_none(tiny):
    config, _ = tiny
    plan = make_plan(config, device(MINI))
    run = plan.runs["geiping2022", "sgd", 1]
    folder, theta = Path(run.spec.folder), torch.zeros(3)
    folder.mkdir(parents=True)
    steps = run.spec.epochs * (512 // run.spec.block)
    save_checkpoint(folder, [State(theta, theta, theta[:0], torch.zeros(steps), step=steps // 4)], "any")
    look(plan)
    assert run.state == "started"
    assert run.share == pytest.approx(1 / 4, abs=0.1)
    before = plan_dict(plan)["all"]["hours"]["left"]
    (folder / "checkpoint.safetensors").write_bytes(b"\0" * 100)
    (folder / "metrics.json").write_text("{half")
    look(plan)
    assert (run.state, run.share) == ("", 0.0)
    assert plan_dict(plan)["all"]["hours"]["left"] > before


def test_runs_that_two_tables_name_are_counted_once_and_records_are_seen():
    plan = make_plan(load_config([ROOT / "config/paper.yaml"]), device(MINI))
    tables = {table: len(keys) for table, (keys, _) in plan.tables.items()}
    assert sum(tables.values()) > len(plan.runs) == 1565
    look(plan, ROOT / "results/records")
    found = plan_dict(plan)
    assert found["all"]["recorded"] == sum(run.recorded for run in plan.runs.values()) > 50
    assert "resnet152" in found["all"]["unknown"]
    assert {key[2] for key in plan.landscapes} == {"line", "plane"}
    assert sum(one.parts for one in plan.landscapes.values()) == 7 * 3 + 3 * 17
    text = plan_text(plan, "a device")
    assert "110 runs of tables are those of another table, or of another row, and are trained once." in text
    assert "is unknown; `python benchmarks/speeds.py --configfile …` measures it" in text


def test_the_command_is_quick_and_its_json_has_every_run():
    def plan(*arguments):
        command = [sys.executable, "-m", "whysgd", "plan", *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    start = time.monotonic()
    done = plan("--configfile", "config/paper.yaml", "--device", "epyc")
    assert done.returncode == 0, done.stderr
    # Two seconds on an idle machine.
    assert time.monotonic() - start < 8
    assert "geiping2022/main" in done.stdout
    assert "Hours are of AMD EPYC (1 thread, fp32), measured on " in done.stdout
    content = json.loads(plan("--json").stdout)
    assert content["device"]["kind"] in ("cpu", "gpu")
    assert len(content["runs"]) == content["all"]["runs"] == 271
    wrong = plan("--device", "abacus")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (1, 1)
    assert wrong.stderr.startswith("error: --device 'abacus': was not measured; config/speeds.json has: AMD EPYC")
    wrong = plan("--configfile", "nothing.yaml")
    assert (wrong.returncode, wrong.stderr) == (1, "error: nothing.yaml: no such file\n")


def test_a_configuration_without_its_images_is_one_line(tmp_path):
    own = {"source": "image_folder", "path": str(tmp_path / "none")}
    config = load_config(settings={"datasets": {"mine": own}})
    config["scales"]["mini"]["datasets"] = {"*": "mine"}
    with pytest.raises(UserError, match="no folder") as caught:
        make_plan(config, device(MINI))
    assert "\n" not in str(caught.value)
