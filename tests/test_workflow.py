"""The workflow itself, run by Snakemake on a copy of the project."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import copy_with, run
from PIL import Image
from test_loop import assert_equal_results, results

from whysgd.measures.catalog import MEASURES
from whysgd.study.config import load_config
from whysgd.study.papers import scaled_spec

pytestmark = pytest.mark.workflow

# A world in which every row trains in a second: 32 images in blocks of 64/4 and 16/4, a few steps.
TINY = {
    "scale": "tiny",
    "papers": ["geiping2022"],
    "evaluations": 3,
    "measures": [],  # tests/test_measure_workflow.py has them
    "scales": {
        "tiny": {
            "description": "for tests", "seeds": [0, 1], "datasets": {"*": "digits"}, "models": {"*": "resnet_mini"}, "tables": {"geiping2022": ["main"]},
            "time_divisor": 1000, "block_divisor": 2, "lr_factor": 1, "augmentation": {"crop_padding": 1, "flip": False},
        }
    },
}  # fmt: skip
OVERLAY = ["--configfile", "tiny.yaml"]


def snakemake(folder, *arguments, check=True):
    return run(["snakemake", "--cores", 2, *arguments], folder, check)


def planned(folder, *arguments) -> dict[str, int]:
    """Jobs of each rule that a dry run would start, targets left out."""
    text = snakemake(folder, "-n", *arguments, "--quiet", "rules").stdout
    if "Nothing to be done" in text:
        return {}
    lines = text.split("Job stats:")[1].strip().splitlines()[2:]
    counts = dict(
        line.rsplit(None, 1) for line in lines[: next(i for i, line in enumerate(lines) if line.startswith("total"))]
    )
    return {rule: int(count) for rule, count in counts.items() if rule not in ("all", "geiping2022")}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A copy of the project in which the tiny world has been run."""
    folder = copy_with(tmp_path_factory.mktemp("finished") / "project", TINY)
    done = snakemake(folder, *OVERLAY)
    return folder, done


@pytest.fixture
def project(finished):
    """The finished copy, restored after the test has edited it."""
    folder, _ = finished
    edited = {}

    def edit(name, old, new):
        file = folder / name
        text = file.read_text()
        assert old in text, f"{old!r} is not in {name}"
        edited.setdefault(file, (text, file.stat()))
        file.write_text(text.replace(old, new))
        return folder

    edit.folder = folder
    yield edit
    for file, (text, stat) in edited.items():
        file.write_text(text)
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_the_default_pipeline_makes_everything_and_prints_the_table(finished):
    folder, done = finished
    table = pd.read_csv(folder / "results/tiny/tables/geiping2022_main.csv")
    assert table.row.tolist() == ["sgd", "fb", "fb-long", "fb-clip", "fb-reg", "fb-strong-reg", "fb-practice"]
    assert (table.n == 2).all()
    assert table.measured_mean.between(5, 100).all()
    for name in ("tables/geiping2022_main.md", "tables/geiping2022_main.tex", "tables/geiping2022_main.html", "claims/geiping2022.md", "index.html",
                 "figures/geiping2022_main_curves.svg", "figures/geiping2022_main_curves.png",
                 "figures/geiping2022_main_comparison.svg", "figures/geiping2022_main_comparison.png"):  # fmt: skip
        assert (folder / "results/tiny" / name).stat().st_size > 200, name
    run_folder = folder / "results/tiny/runs/geiping2022/fb-reg/seed-1"
    assert {"metrics.json", "history.csv", "model.safetensors"} <= {file.name for file in run_folder.iterdir()}
    output = done.stdout + done.stderr
    assert "| fb-practice" in output
    assert "| g4" in output
    assert "report:   results/tiny/index.html" in output


def test_a_second_run_has_nothing_to_do(finished):
    assert planned(finished[0], *OVERLAY) == {}


def test_one_paper_and_one_file_can_be_asked_for(finished):
    folder, _ = finished
    assert planned(folder, "geiping2022", *OVERLAY) == {}
    table = folder / "results/tiny/tables/geiping2022_main.md"
    table.unlink()
    assert planned(folder, "results/tiny/tables/geiping2022_main.md", *OVERLAY) == {"make_table": 1}
    snakemake(folder, "results/tiny/tables/geiping2022_main.md", *OVERLAY)
    assert table.exists()
    snakemake(folder, *OVERLAY)


AFTER_TRAINING = {"collect_runs": 1, "make_table": 1, "check_claims": 1, "plot_figure": 2, "write_page": 1}
EDITS = {
    "a row's setting": (
        "papers/geiping2022.yaml", "fb-clip: {epochs: 3000, lr: 0.4, clip: 0.25}",
        "fb-clip: {epochs: 3000, lr: 0.4, clip: 0.2}", {"train": 2, **AFTER_TRAINING},
    ),
    "a setting that three rows share": (
        "papers/geiping2022.yaml", "block_strength: 0.5", "block_strength: 0.6", {"train": 6, **AFTER_TRAINING},
    ),
    "a published number": (
        "papers/geiping2022.yaml", "mean: 75.42", "mean: 75.43",
        {"make_table": 1, "plot_figure": 2, "write_page": 1},
    ),
    "a claim": ("papers/geiping2022.yaml", "sgd - fb >= 10 points", "sgd - fb >= 9 points", {"check_claims": 1, "write_page": 1}),
    "a scale's rule": ("tiny.yaml", "lr_factor: 1", "lr_factor: 2", {"train": 14, **AFTER_TRAINING}),
    "the look of figures": ("whysgd/report/style.py", '"font.size": 9', '"font.size": 8', {"plot_figure": 2, "write_page": 1}),
    "a figure's size": (
        "whysgd/report/figures/curves.py", "PANEL = (4.0, 4.0)", "PANEL = (4.0, 3.0)", {"plot_figure": 1, "write_page": 1},
    ),
    "the page's template": ("whysgd/report/templates/index.html", "<h2>Claims</h2>", "<h2>The claims</h2>", {"write_page": 1}),
    "the page's script": ("whysgd/report/templates/page.js", "const marked =", "const wanted =", {"write_page": 1}),
    "the page's style": ("whysgd/report/templates/page.css", "max-width: 76rem", "max-width: 80rem", {"write_page": 1}),
    "the optimizer": (
        "whysgd/training/sgd.py", "alpha=-lr)", "alpha=-1.0 * lr)", {"train": 14, **AFTER_TRAINING},
    ),
    "a comment in the optimizer": ("whysgd/training/sgd.py", "@torch.no_grad()", "# Why.\n@torch.no_grad()", {}),
    "a docstring of the optimizer": ("whysgd/training/sgd.py", "One step, in place", "A single step, in place", {}),
    "a comment in a script": ("workflow_scripts/make_table.py", "import pandas", "# Why.\nimport pandas", {}),
    "a docstring of a script": ("workflow_scripts/make_table.py", "Rule make_table:", "The rule make_table:", {}),
    "the device": ("tiny.yaml", "scale: tiny", "scale: tiny\ndevice: cpu\nthreads: 2\ncheckpoint_seconds: 5\ntensorboard: true\ncluster: {margin: 9, longest: 7}", {}),
    "a message of the configuration": ("whysgd/study/validation.py", "must not repeat an entry", "must not have an entry twice", {}),
    "what a precision means": (
        "whysgd/training/device.py", "    allow_tf32(False)\n", "    allow_tf32(True)\n", {"train": 14, **AFTER_TRAINING},
    ),
    "how data are read": (
        "whysgd/data/sources.py", "(255 / 16)", "(254 / 16)", {"build_dataset": 1, "train": 14, **AFTER_TRAINING},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("file", "old", "new", "expected"), EDITS.values(), ids=EDITS.keys())
def test_an_edit_reruns_what_depends_on_it_and_nothing_else(project, file, old, new, expected):
    folder = project(file, old, new)
    assert planned(folder, *OVERLAY) == expected


def test_a_changed_history_is_collected_again(project):
    folder = project("results/tiny/runs/geiping2022/fb/seed-0/history.csv", "step,epoch", "step, epoch")
    assert planned(folder, *OVERLAY) == AFTER_TRAINING


def test_a_further_seed_trains_that_seed_alone(finished):
    jobs = planned(finished[0], *OVERLAY, "--config", "seeds=[0,1,2]")
    assert jobs == {"train": 7, **AFTER_TRAINING}


def test_a_single_run_can_be_asked_for_at_a_scale_without_tables(finished):
    folder, _ = finished
    (folder / "other.yaml").write_text(
        yaml.safe_dump({**TINY, "scale": "other", "scales": {"other": TINY["scales"]["tiny"]}})
    )
    metrics = "results/other/runs/geiping2022/fb/seed-0/metrics.json"
    snakemake(folder, metrics, "--configfile", "other.yaml")
    assert (folder / metrics).exists()


def test_an_edited_row_is_really_retrained(project):
    metrics = "results/tiny/runs/geiping2022/fb-clip/seed-0/metrics.json"
    folder = project("papers/geiping2022.yaml", "clip: 0.25}\n  fb-reg", "clip: 1.0e-9}\n  fb-reg")
    before = {file: file.stat().st_mtime_ns for file in folder.glob("results/tiny/runs/*/*/*/metrics.json")}
    snakemake(folder, metrics, *OVERLAY)
    changed = {file.parts[-3] for file, time in before.items() if file.stat().st_mtime_ns != time}
    assert changed == {"fb-clip"}
    history = pd.read_csv(folder / metrics.replace("metrics.json", "history.csv"))
    assert (history.clipped == 1).all()


def test_results_can_go_elsewhere(finished, tmp_path):
    folder, _ = finished
    target = "results/tiny/runs/geiping2022/fb/seed-0/metrics.json"
    command = ["snakemake", "--cores", 2, "-s", folder / "Snakefile", "-d", tmp_path, target]
    run([*command, "--configfile", folder / "tiny.yaml"], folder)
    assert (tmp_path / target).exists()


def test_the_paper_scale_has_a_job_for_each_run_table_and_figure(finished):
    folder, _ = finished
    unmeasured = planned(folder, "--configfile", "config/paper.yaml", "--config", "measures=[]")
    jobs = planned(folder, "--configfile", "config/paper.yaml")
    # geiping2022 has 40 runs, novack2023 42, of which four graft the norms of others, iyer2023 12, seminar 21; each with 3
    # seeds, those of the explore table with 50. Each trained network has seven measures. simsekli2019 has two grids of
    # 162 cells, the seeds of each in one job and their measures in another, and 20 AlexNets.
    trained, cells, alexnets = 3 * (40 + 42 + 8 + 21) + 4 * 50, 2 * 162, 3 * 20
    measures = {f"measure_{name}": trained + alexnets for name in MEASURES}
    # Three parts for each profile of the main table's seven rows, 17 for each of three planes.
    assert jobs == {
        "build_dataset": 4, "build_store": 2, "plot_sheet": 2, "train": trained - 12, "train_grafted": 12, "train_noise": alexnets, "train_seeds": cells,
        "collect_runs": 5, "make_table": 19, **measures, "measure_seeds": cells, "measure_landscape": 7 * 3 + 3 * 17, "collect_measures": 5,
        "tabulate_measures": 1, "plot_correlations": 1, "write_reading": 1, "plot_landscape": 3, "plot_histograms": 1, "plot_grid": 5,
        "plot_noise": 3, "plot_trajectories": 1, "check_claims": 5, "plot_curves": 11, "plot_comparison": 11, "plot_steps": 8, "write_page": 1,
    }  # fmt: skip
    assert set(jobs) - set(unmeasured) == {
        *measures, "measure_seeds", "measure_landscape", "collect_measures", "tabulate_measures", "plot_correlations", "write_reading",
        "plot_landscape", "plot_histograms", "plot_grid",
    }  # fmt: skip
    assert unmeasured["train"] == jobs["train"]


# Two rows of the grafting table, ten steps each.
GRAFTING = {
    "scale": "grafting", "papers": ["novack2023"], "evaluations": 2, "measures": [],
    "scales": {"grafting": {
        "seeds": [0, 1], "datasets": {"*": "digits"}, "models": {"*": "fc_d2_w4"}, "tables": {"novack2023": ["grafting"]}, "time_divisor": 5000,
        "block_divisor": 32, "skip": {"novack2023": ["resnet18-cifar100", "vgg16-cifar100"]},
    }},
}  # fmt: skip


def test_a_grafted_run_waits_for_the_log_of_the_run_of_its_seed(project):
    folder = project.folder
    (folder / "grafting.yaml").write_text(yaml.safe_dump(GRAFTING))
    overlay = ["--configfile", "grafting.yaml"]
    graph = snakemake(folder, "--rulegraph", *overlay).stdout
    number = {name: n for n, name in re.findall(r"(\d+)\[label = \"(\w+)\"", graph)}
    assert f"{number['train']} -> {number['train_grafted']}" in graph
    # By seed: one grafted run needs one other run.
    runs = "results/grafting/runs/novack2023"
    wanted = f"{runs}/vgg16-cifar10.exter-graft/seed-1/metrics.json"
    assert planned(folder, wanted, *overlay) == {"train": 1, "train_grafted": 1}
    snakemake(folder, *overlay)
    assert planned(folder, *overlay) == {}
    log = folder / runs / "vgg16-cifar10.sb-sgd/seed-1/gradient_norms.csv"
    grafted = pd.read_csv((folder / wanted).parent / "history.csv")
    small = pd.read_csv(log).set_index("step").gradient_norm
    np.testing.assert_allclose(grafted.step_length, 0.05 * small[grafted.step], rtol=1e-3)
    table = pd.read_csv(folder / "results/grafting/tables/novack2023_grafting.csv")
    assert table.measured_gap.notna().sum() == 6
    assert table[table.row.str.startswith("resnet18-cifar100")].measured_mean.isna().all()
    # Another small-batch run is another log: what was grafted from it is trained again, seed by seed.
    folder = project(
        "papers/novack2023.yaml", "lr: [0.05, 0.1, 0.05, 0.05, 0.2388]", "lr: [0.06, 0.1, 0.05, 0.05, 0.2388]"
    )
    assert planned(folder, wanted, *overlay) == {"train": 1, "train_grafted": 1}


MESSAGES = {
    "unknown key": (["--config", "sede=1"], "error: --config: sede: unknown key; allowed here: "),
    "negative seed": (["--config", "seeds=[-1]"], "error: --config: seeds[0] = -1: must be at least 0"),
    "unknown scale": (["--config", "scale=huge"], "error: --config: scale = 'huge': allowed: mini, midi, paper"),
    "wrong type": (["--config", "threads=two"], "error: --config: threads = 'two': must be a whole number"),
}


@pytest.mark.parametrize(("arguments", "message"), MESSAGES.values(), ids=MESSAGES.keys())
def test_a_mistake_is_one_line_and_exit_code_1(finished, arguments, message):
    done = snakemake(finished[0], "-n", *arguments, check=False)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if "error" in line.lower()]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith(message)
    assert "Traceback" not in done.stdout + done.stderr


def test_a_mistake_in_a_paper_is_one_line(project):
    folder = project("papers/geiping2022.yaml", "fb-clip: {epochs: 3000, lr: 0.4", "fb-clip: {epochs: 3000, lr: -0.4")
    done = snakemake(folder, "-n", *OVERLAY, check=False)
    assert done.returncode == 1
    assert "error: papers/geiping2022.yaml: runs.fb-clip.lr = -0.4: must be above 0" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.fixture
def image_folder(tmp_path):
    """A hundred JPEG images of 32×32 in five classes of different colour, sorted by class."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 16), ("test", 4)):
        for label in range(5):
            place = tmp_path / "my images" / split / f"class {label}"
            place.mkdir(parents=True)
            for i in range(count):
                pixels = generator.integers(0, 80, (32, 32, 3)) + 40 * label
                Image.fromarray(pixels.astype(np.uint8)).save(place / f"{i:04}.jpg")
    return tmp_path / "my images"


FOLDER = {
    "scale": "folder", "papers": ["geiping2022"], "evaluations": 2, "measures": [],
    "datasets": {"mine": {"source": "image_folder", "path": "", "label": "my images (JPEG)"}},
    "scales": {"folder": {
        "seeds": [0], "datasets": {"*": "mine"}, "models": {"*": "resnet_mini"}, "tables": {"geiping2022": ["main"]}, "time_divisor": 1000, "block_divisor": 8,
    }},
}  # fmt: skip


def test_an_image_folder_runs_through_the_same_rules(finished, image_folder):
    folder, _ = finished
    config = yaml.safe_load(yaml.safe_dump(FOLDER))
    config["datasets"]["mine"]["path"] = str(image_folder)
    (folder / "folder.yaml").write_text(yaml.safe_dump(config))
    overlay = ["--configfile", "folder.yaml"]
    snakemake(folder, *overlay)
    table = (folder / "results/folder/tables/geiping2022_main.md").read_text()
    assert "my images (JPEG) (80 training and 20 test images), resnet_mini" in table
    assert planned(folder, *overlay) == {}
    # A new image makes the data set, and all that is trained on it, again.
    some = next((image_folder / "train/class 0").iterdir())
    shutil.copy(some, some.with_name("new.jpg"))
    assert planned(folder, *overlay) == {"build_dataset": 1, "train": 7, **AFTER_TRAINING}
    # A damaged one is named, in the log that is shown.
    some.write_bytes(some.read_bytes()[:100])
    done = snakemake(folder, *overlay, check=False)
    assert done.returncode == 1
    assert f"error: {some}: not a readable image" in done.stdout + done.stderr


def train_command(folder, out):
    return [sys.executable, "-m", "whysgd", "train", "geiping2022/fb-practice", "--seed", "1", "--data", "results/data/digits",
            "--configfile", "longer.yaml", "--out", str(out), "--checkpoint-seconds", "0.05"]  # fmt: skip


@pytest.mark.slow  # tests/test_kills.py has more of it, in processes that start at once
def test_a_run_killed_at_random_moments_ends_with_the_same_bits(finished, tmp_path):
    folder, _ = finished
    longer = yaml.safe_load(yaml.safe_dump(TINY))
    longer["scales"]["tiny"]["time_divisor"] = 30
    (folder / "longer.yaml").write_text(yaml.safe_dump(longer))
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    options = {"cwd": folder, "env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    subprocess.run(train_command(folder, tmp_path / "whole"), check=True, **options)
    moments, kills, cut = random.Random(0), 0, tmp_path / "cut"
    while True:
        process = subprocess.Popen(train_command(folder, cut), **options)
        checkpoint = cut / "checkpoint.safetensors"
        seen = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        # Wait for progress, so that every life gets somewhere, then kill at a random moment.
        while process.poll() is None and not (checkpoint.exists() and checkpoint.stat().st_mtime_ns != seen):
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.5))
        if kills < 6 and process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            kills += 1
            continue
        _, errors = process.communicate()
        assert process.returncode == 0, errors
        break
    assert kills >= 3
    assert_equal_results(results(tmp_path / "whole"), results(cut))


def test_training_runs_without_snakemake_as_the_rule_does(finished, tmp_path):
    folder, _ = finished
    run(
        ["whysgd", "train", "geiping2022/fb-reg", "--seed", 1, "--configfile", "tiny.yaml", "--out", tmp_path / "run"],
        folder,
    )
    assert_equal_results(results(tmp_path / "run"), results(folder / "results/tiny/runs/geiping2022/fb-reg/seed-1"))
    done = run(["whysgd", "train", "geiping2022/fb-regg"], folder, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: train: 'geiping2022/fb-regg': no such run; allowed: sgd, fb, ")
    done = run(["whysgd", "train", "--spec", '{"paper": "x"}'], folder, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)


def test_the_rules_have_one_order_and_the_workflow_is_clean(finished):
    folder, _ = finished
    done = run(["snakemake", "--lint"], folder)
    assert "Congratulations" in done.stdout + done.stderr
    order = [
        "input",
        "output",
        "log",
        "benchmark",
        "wildcard_constraints",
        "params",
        "threads",
        "resources",
        "conda",
        "script",
        "shell",
    ]
    for file in (folder / "rules").glob("*.smk"):
        # What is inherited has its order from the rule it is taken from.
        for rule in file.read_text().split("\nif ")[0].split("\nrule ")[1:]:
            directives = [
                line.strip(" :").split(":")[0]
                for line in rule.splitlines()
                if line[:4] == "    " and line[4:5].isalpha()
            ]
            positions = [order.index(name) for name in directives]
            assert positions == sorted(positions), f"{file.name}: {rule.splitlines()[0]} {directives}"


def test_the_snakemake_report_is_built(finished, tmp_path):
    folder, _ = finished
    run(["snakemake", "--report", tmp_path / "report.html", *OVERLAY], folder)
    text = (tmp_path / "report.html").read_text()
    assert "geiping2022_main_curves.svg" in text
    assert '"table": "Full-batch training against SGD", "figure": "curves"' in text
    assert "geiping2022_main.html" in text


def test_specs_of_the_command_line_and_the_workflow_agree(finished):
    folder, _ = finished
    spec = scaled_spec(load_config([folder / "tiny.yaml"]), "geiping2022", "fb-reg", 1)
    metrics = results(Path(folder, "results/tiny/runs/geiping2022/fb-reg/seed-1"))[0]
    assert metrics["spec_digest"] == spec.digest
