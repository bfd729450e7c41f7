"""Which jobs Snakemake starts, and what they leave, in a finished project of everything in miniature."""

import copy
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import run, write_images
from miniature import (
    OVERLAY,
    TINY,
    WORLD,
    copied,
    dry_run,
    planned,
    planned_jobs,
    snakemake,
    write_config,
)
from test_loop import assert_equal_results, results

from whysgd.files import read_json
from whysgd.measures.catalog import MEASURES
from whysgd.study.config import load_config
from whysgd.study.papers import scaled_spec

pytestmark = pytest.mark.workflow

FB = "results/tiny/runs/geiping2022/fb/seeds-0-1"
# What follows the training of one run of geiping2022, and of all: their landscapes, and all that is made of frames.
AFTER_ONE = {
    "measure": 1, "collect_runs": 1, "collect_measures": 1, "make_table": 1, "check_claims": 1, "plot_figure": 5,
    "summarize_measures": 1, "write_page": 1,
}  # fmt: skip
EVERY = {
    "train": 15, "measure": 15, "measure_landscape": 11, "collect_runs": 4, "collect_measures": 4, "make_table": 5,
    "check_claims": 4, "plot_figure": 13, "summarize_measures": 1, "write_page": 1,
}  # fmt: skip
# Without training: what is made of the measures, among it the strips and the grid as lines.
FROM_MEASURES = {
    "collect_measures": 4, "make_table": 2, "check_claims": 3, "plot_figure": 2, "summarize_measures": 1, "write_page": 1,
}  # fmt: skip
PAPER, PAGE = "papers/geiping2022.yaml", "whysgd/report/templates"
CLIP = "fb-clip: {epochs: 3000, lr: 0.4, clip: 0.25}"
EDITS = {
    "a row's setting": (PAPER, CLIP, CLIP.replace("0.25", "0.2"), {"train": 1, **AFTER_ONE, "measure_landscape": 1}),
    "a published number": (PAPER, "mean: 75.42", "mean: 75.43", {"make_table": 1, "plot_figure": 5, "write_page": 1}),
    "a claim": (PAPER, "sgd - fb >= 10 points", "sgd - fb >= 9 points", {"check_claims": 1, "write_page": 1}),
    "a scale's rule": ("tiny.yaml", "lr_factor: 1", "lr_factor: 2", EVERY),
    "an option of a measure": ("tiny.yaml", "steps: 2", "steps: 3", {"measure": 15, **FROM_MEASURES}),
    "points of a landscape": (
        "tiny.yaml", "line_points: 5", "line_points: 7", {"measure_landscape": 5, "plot_figure": 1, "write_page": 1},
    ),
    "the loop": ("whysgd/training/loop.py", "", "\nUNUSED = 1\n", EVERY),
    "what a device does": ("whysgd/training/device.py", "", "\nUNUSED = 1\n", EVERY),
    "a penalty": ("whysgd/training/penalties/gradient_norm.py", "", "\nUNUSED = 1\n",
                  {"train": 2, **AFTER_ONE, "measure": 2, "measure_landscape": 4}),
    "how data are read": ("whysgd/data/sources.py", "", "\nUNUSED = 1\n", {"build_dataset": 1, **EVERY}),
    "a measure": ("whysgd/measures/keskar.py", "", "\nUNUSED = 1\n", {"measure": 15, **FROM_MEASURES}),
    "a figure's size": (
        "whysgd/report/figures/comparison.py", "ROW_HEIGHT, MARGIN = 0.27", "ROW_HEIGHT, MARGIN = 0.3", {"plot_figure": 1, "write_page": 1},
    ),
    "the look of figures": ("whysgd/report/style.py", '"font.size": TEXT', '"font.size": SMALL',
                            {"plot_figure": 13, "summarize_measures": 1, "write_page": 1}),
    "a script": ("workflow_scripts/make_table.py", "", "\nUNUSED = 1\n", {"make_table": 5, "write_page": 1}),
    "the page's template": (f"{PAGE}/index.html", "<h2>Verdicts</h2>", "<h2>The verdicts</h2>", {"write_page": 1}),
    "the page's script": (f"{PAGE}/page.js", "const marked =", "const wanted =", {"write_page": 1}),
    "the page's style": (f"{PAGE}/page.css", "max-width: 76rem", "max-width: 80rem", {"write_page": 1}),
    "a history": (f"{FB}/history.csv", "step,epoch", "step, epoch", {"collect_runs": 1, "make_table": 1, "check_claims": 1, "plot_figure": 5, "summarize_measures": 1, "write_page": 1}),
}  # fmt: skip
# Edits after which nothing is done again.
IDLE = [
    ("whysgd/training/loop.py", "", "\n# Why.\n"), ("whysgd/training/engine.py", '"""', '"""So: '),
    ("workflow_scripts/make_table.py", "", "\n# Why.\n"), ("workflow_scripts/collect_runs.py", '"""', '"""So: '),
    ("whysgd/errors.py", "", "\nUNUSED = 1\n"), ("whysgd/study/validation.py", "", "\nUNUSED = 1\n"),
    ("whysgd/training/setup.py", "another process is training in this folder; wait", "this folder is in use; wait"),
    ("tiny.yaml", "", "\ndevice: cpu\nthreads: 2\ncheckpoint_seconds: 5\ntensorboard: true\ncluster: {margin: 9, longest: 7}\n"),
]  # fmt: skip


def test_the_pipeline_makes_everything_and_prints_the_verdicts(miniature):
    place = miniature / "results/tiny"
    table = pd.read_csv(place / "tables/geiping2022_main.csv").set_index("row")
    assert table.index.tolist() == ["sgd", "fb", "fb-long", "fb-clip", "fb-reg", "fb-strong-reg", "fb-practice"]
    assert table.n.tolist() == [2, 2, 0, 2, 2, 2, 0]
    assert table.measured_mean.dropna().between(5, 100).all()
    for name in ("tables/geiping2022_main.md", "tables/geiping2022_main.tex", "tables/geiping2022_main.html",
                 "claims/geiping2022.md", "index.html", "figures/geiping2022_main_curves.svg",
                 "figures/geiping2022_main_comparison.png"):  # fmt: skip
        assert (place / name).stat().st_size > 200, name
    files = ["best.safetensors", "gradient_norms.csv", "history.csv", "layers.csv", "metrics.json", "model.safetensors",
             "noise.csv", "noise_norms.csv"]  # fmt: skip
    assert sorted(file.name for file in (miniature / FB).iterdir() if file.name != ".lock") == files
    metrics = read_json(miniature / FB / "metrics.json")
    assert list(metrics["seeds"]) == ["0", "1"]
    specs = [scaled_spec(load_config([miniature / "tiny.yaml"]), "geiping2022", "fb", seed) for seed in (0, 1)]
    assert [own["spec_digest"] for own in metrics["seeds"].values()] == [spec.digest for spec in specs]
    told = (miniature / "made").read_text()
    assert re.search(r"^geiping2022 +g1 +(holds|fails|undetermined) ", told, re.MULTILINE)
    assert "whysgd show geiping2022/main --scale tiny" in told
    assert "page:       results/tiny/index.html" in told


def test_a_second_run_has_nothing_to_do_and_parts_can_be_asked_for(miniature):
    assert "Nothing to be done" in dry_run(miniature, *OVERLAY)[1]
    assert planned(miniature, "geiping2022", *OVERLAY) == {}
    table = miniature / "results/tiny/tables/geiping2022_main.md"
    moved = shutil.move(table, table.with_suffix(".moved"))
    assert planned(miniature, "novack2023", *OVERLAY) == {}
    assert planned(miniature, table.relative_to(miniature), *OVERLAY) == {"make_table": 1}
    shutil.move(moved, table)


@pytest.mark.parametrize(("file", "old", "new", "expected"), EDITS.values(), ids=EDITS.keys())
def test_an_edit_reruns_what_depends_on_it_and_nothing_else(edit, file, old, new, expected):
    assert planned(edit(file, old, new), *OVERLAY) == expected


def test_comments_docstrings_messages_and_settings_of_the_machine_rerun_nothing(edit, miniature):
    for change in IDLE:
        edit(*change)
    assert planned(miniature, *OVERLAY) == {}


def test_an_edited_row_is_really_trained_again(miniature, tmp_path):
    folder = copied(miniature, tmp_path / "project")
    paper = folder / PAPER
    paper.write_text(paper.read_text().replace(CLIP, CLIP.replace("0.25", "1.0e-9")))
    place = folder / "results/tiny/runs/geiping2022"
    before = {file: file.read_bytes() for file in place.glob("*/*/metrics.json")}
    snakemake(folder, f"{place.relative_to(folder)}/fb-clip/seeds-0-1/metrics.json", *OVERLAY)
    assert {file.parts[-3] for file, text in before.items() if file.read_bytes() != text} == {"fb-clip"}
    assert (pd.read_csv(place / "fb-clip/seeds-0-1/history.csv").clipped == 1).all()


def test_a_further_seed_trains_that_seed_alone(miniature):
    jobs = planned_jobs(miniature, *OVERLAY, "--config", "seeds=[0,1,2]")
    trained = [job["wildcards"]["seeds"] for job in jobs if job["rule"] in ("train", "measure")]
    assert trained == ["seeds-2"] * 30
    # Profiles are of every seed, planes of the first.
    looked = [job["wildcards"] for job in jobs if job["rule"] == "measure_landscape"]
    assert [(one["seeds"], one["kind"]) for one in looked] == [("seeds-2", "line")] * 5


def test_a_scale_says_how_many_seeds_and_measures_share_a_job(miniature):
    config = copy.deepcopy(WORLD) | {"scale": "split", "papers": ["novack2023"]}
    config["scales"] = {"split": config["scales"]["tiny"] | {"seeds_per_job": 1, "measures_share_a_job": False}}
    jobs = planned_jobs(miniature, *write_config(miniature, "split.yaml", config))
    assert [job["wildcards"]["seeds"] for job in jobs if job["rule"] == "train"].count("seeds-1") == 3
    assert sum(job["rule"] == "train" for job in jobs) == 6
    measures = [job["wildcards"]["measures"] for job in jobs if job["rule"] == "measure"]
    assert {name: measures.count(name) for name in measures} == dict.fromkeys(MEASURES, 6)
    # Where all have been taken in one job, they stay: each can be asked for by itself.
    target = "results/tiny/measures/geiping2022/sgd/seeds-0-1/fisher.json"
    snakemake(miniature, target, *OVERLAY)
    whole = read_json(miniature / target.replace("fisher", "all"))
    same = [(one["seed"], one["quantities"]) for one in whole if one["measure"] == "fisher"]
    assert [(one["seed"], one["quantities"]) for one in read_json(miniature / target)] == same
    (miniature / target).unlink()


def test_more_seeds_and_other_batches_leave_what_was_trained(miniature, tmp_path):
    folder, config = copied(miniature, tmp_path / "project"), copy.deepcopy(WORLD)
    config["scales"]["tiny"]["skip"]["geiping2022"] += ["sgd", "fb-reg", "fb-strong-reg"]
    overlay, table = write_config(folder, "two.yaml", config), "results/tiny/tables/geiping2022_main.csv"
    first = {file: file.stat().st_mtime_ns for file in folder.glob("results/tiny/runs/*/*/seeds-0-1/*")}
    snakemake(folder, table, *overlay, "--config", "seeds=[0,1,2,3]")
    assert {file: file.stat().st_mtime_ns for file in first} == first
    runs = folder / "results/tiny/runs/geiping2022"
    assert sorted(file.name for file in (runs / "fb").iterdir()) == ["seeds-0-1", "seeds-2-3"]
    shown = pd.read_csv(folder / table).set_index("row")
    assert (shown.n["fb"], shown.n["fb-clip"], shown.n["sgd"]) == (4, 4, 0)
    # Whoever asks for the first batch alone gets it.
    assert planned(folder, table, *overlay) == {"collect_runs": 1, "make_table": 1}


def test_the_paper_scale_has_a_job_for_each_run_table_and_figure(miniature):
    every = ["--config", "papers=[geiping2022,novack2023,iyer2023,simsekli2019,seminar]"]
    jobs = planned(miniature, "--configfile", "config/paper.yaml", *every)
    # geiping2022 has 51 runs, novack2023 42, iyer2023 12, each with 3 seeds, those of the explore table with 50. Each trained network has seven measures.
    # simsekli2019 has two grids of 162 cells and 20 AlexNets, seminar 21 runs; their seeds share a job, and so do their measures.
    single, shared = 3 * (51 + 42 + 8) + 4 * 50, 2 * 162 + 20 + 21
    assert jobs.pop("measure") == len(MEASURES) * single + shared
    # Three parts for each profile of the main table's seven rows and three seeds, 17 for each of three planes.
    assert jobs == {
        "build_dataset": 4, "build_store": 2, "plot_augmentation": 2, "train": single + shared, "collect_runs": 5, "make_table": 20,
        "measure_landscape": 7 * 3 * 3 + 3 * 17, "collect_measures": 5, "summarize_measures": 1, "plot_figure": 44, "plot_trajectories": 1,
        "check_claims": 5, "write_page": 1,
    }  # fmt: skip
    unmeasured = planned(miniature, "--configfile", "config/paper.yaml", *every, "measures=[]")
    assert {rule: unmeasured.get(rule) for rule in jobs if unmeasured.get(rule) != jobs[rule]} == {
        "measure_landscape": None, "collect_measures": None, "summarize_measures": None, "plot_figure": 36,
    }  # fmt: skip


def test_a_grafted_run_waits_for_the_log_of_its_seeds_and_follows_it(miniature, edit):
    runs = "results/tiny/runs/novack2023"
    wanted = f"{runs}/vgg16-cifar10.exter-graft/seeds-0-1/metrics.json"
    small = pd.read_csv(miniature / runs / "vgg16-cifar10.sb-sgd/seeds-0-1/gradient_norms.csv")
    grafted = pd.read_csv((miniature / wanted).parent / "history.csv")
    norms = small.set_index(["seed", "step"]).gradient_norm
    # The rate is that of a micro-batch, as its length is.
    expected = 0.05 / 32 * norms[list(zip(grafted.seed, grafted.step, strict=True))]
    np.testing.assert_allclose(grafted.step_length, expected, rtol=1e-3)
    # Another small-batch run is another log: what was grafted from it is trained again.
    old, new = "lr: [0.05, 0.1, 0.05, 0.05, 0.2388]", "lr: [0.06, 0.1, 0.05, 0.05, 0.2388]"
    jobs = planned_jobs(edit("papers/novack2023.yaml", old, new), wanted, *OVERLAY)
    assert [job["wildcards"]["run"].split(".")[1] for job in jobs] == ["sb-sgd", "exter-graft"]


def test_a_mistake_is_one_line_and_exit_code_1(edit):
    folder = edit(PAPER, CLIP, CLIP.replace("lr: 0.4", "lr: -0.4"))
    for arguments, message in (
        (["--config", "sede=1"], "error: --config: sede: unknown key; allowed here: "),
        (OVERLAY, "error: papers/geiping2022.yaml: runs.fb-clip.lr = -0.4: must be above 0"),
    ):
        code, text = dry_run(folder, *arguments, check=False)
        (line,) = [line for line in text.splitlines() if "error" in line.lower()]
        assert (code, line[: len(message)], "Traceback" in text) == (1, message, False)
    edit(PAPER, "lr: -0.4", "lr: 0.4")
    _, text = dry_run(folder, FB.replace("/fb/", "/fbb/") + "/metrics.json", *OVERLAY, check=False)
    assert "no run geiping2022/fbb at scale tiny; allowed: geiping2022/sgd, geiping2022/fb" in text


@pytest.fixture
def image_folder(tmp_path):
    """A hundred JPEG images of 32×32 in five classes of different colour, sorted by class."""
    generator = np.random.default_rng(0)

    def pixels(label, _):
        return generator.integers(0, 80, (32, 32, 3)) + 40 * label

    return write_images(tmp_path / "my images", [f"class {label}" for label in range(5)], pixels, 16, 4, "{:04}.jpg")


def test_an_image_folder_runs_through_the_same_rules(miniature, image_folder):
    config = copy.deepcopy(TINY) | {"scale": "folder"}
    config["datasets"] = {"mine": {"source": "image_folder", "path": str(image_folder), "label": "my images (JPEG)"}}
    rows = ["sgd", "fb-long", "fb-clip", "fb-reg", "fb-strong-reg", "fb-practice"]
    changes = {"datasets": {"*": "mine"}, "micro_batch_divisor": 8, "skip": {"geiping2022": rows}}
    config["scales"] = {"folder": config["scales"]["tiny"] | changes}
    overlay = write_config(miniature, "folder.yaml", config)
    table = "results/folder/tables/geiping2022_main.md"
    snakemake(miniature, table, *overlay)
    text = (miniature / table).read_text()
    assert "my images (JPEG) (80 training and 20 test images), resnet_mini" in text
    assert planned(miniature, table, *overlay) == {}
    # A new image makes the data set, and all that is trained on it, again.
    some = next((image_folder / "train/class 0").iterdir())
    shutil.copy(some, some.with_name("new.jpg"))
    assert planned(miniature, table, *overlay) == {"build_dataset": 1, "train": 1, "collect_runs": 1, "make_table": 1}
    # A damaged one is named.
    some.write_bytes(some.read_bytes()[:100])
    done = snakemake(miniature, table, *overlay, check=False)
    assert done.returncode == 1
    assert f"error: {some}: not a readable image" in done.stdout + done.stderr


def test_training_without_snakemake_and_results_elsewhere_are_the_same(miniature, tmp_path):
    runs = "results/tiny/runs/geiping2022"
    command = ["whysgd", "train", "geiping2022/fb-reg", "--seed", 0, 1, "--configfile", "tiny.yaml"]
    run([*command, "--out", tmp_path / "run"], miniature)
    assert_equal_results(results(tmp_path / "run"), results(miniature / runs / "fb-reg/seeds-0-1"))
    (elsewhere := tmp_path / "elsewhere").mkdir()
    target = f"{runs}/fb/seeds-0-1/metrics.json"
    options = ["-s", miniature / "Snakefile", "-d", elsewhere, "--configfile", miniature / "tiny.yaml"]
    run(["snakemake", "--cores", 2, target, *options], miniature)
    assert_equal_results(results(elsewhere / target.rpartition("/")[0]), results(miniature / FB))
    done = run(["whysgd", "train", "geiping2022/fb-regg"], miniature, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: train: 'geiping2022/fb-regg': no such run; allowed: sgd, fb, ")
    done = run(["whysgd", "train", "--spec", '{"paper": "x"}'], miniature, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)


def test_the_picture_of_a_paper_is_made_by_its_rule(miniature, edit):
    content = yaml.safe_load((miniature / "papers/seminar.yaml").read_text())
    edit("papers/seminar.yaml", f"steps: {content['trajectories']['steps']}", "steps: 12")
    target = "results/mini/figures/seminar_gd-2d"
    snakemake(miniature, f"{target}.csv", "--config", "papers=[seminar]")
    assert len(pd.read_csv(miniature / f"{target}.csv")) == 8 * 13
    for kind in ("svg", "png"):
        assert (miniature / f"{target}.{kind}").stat().st_size > 5000
    _, text = dry_run(miniature, target.replace("seminar", "geiping2022") + ".csv", check=False)
    assert "papers/geiping2022.yaml has no trajectories" in text


ORDER = [
    "input", "output", "log", "benchmark", "wildcard_constraints", "params", "priority", "threads", "resources",
    "conda", "script", "shell",
]  # fmt: skip


def test_the_rules_have_one_order_and_the_workflow_is_clean(miniature):
    done = run(["snakemake", "--lint"], miniature)
    assert "Congratulations" in done.stdout + done.stderr
    for file in (miniature / "rules").glob("*.smk"):
        for rule in file.read_text().split("\nrule ")[1:]:
            places = [ORDER.index(name) for name in re.findall(r"^    (\w+):", rule, re.MULTILINE)]
            assert places == sorted(places), f"{file.name}: {rule.splitlines()[0]}"


def test_the_longest_training_starts_first_of_those_that_wait_for_none(miniature):
    blocks = re.findall(r"^(?:local)?rule train:\n((?:    .*\n)*)", (miniature / "made").read_text(), re.MULTILINE)
    free = [block for block in blocks if "gradient_norms.csv" not in block.split("output:")[0]]
    own = [float(block.split("priority: ")[1].split()[0]) for block in free]
    assert len(set(own)) > 3
    # Two that start at the same moment, on two cores, are told in any order.
    assert all(one >= later for place, one in enumerate(own) for later in own[place + 2 :])


def test_the_snakemake_report_is_built(miniature, tmp_path):
    run(["snakemake", "--report", tmp_path / "report.html", *OVERLAY], miniature)
    text = (tmp_path / "report.html").read_text()
    assert "geiping2022_main_curves.svg" in text
    assert '"table": "Full-batch training against SGD", "figure": "curves"' in text
    assert "geiping2022_main.html" in text
