"""What a configuration asks the workflow for."""

import copy
import json
import shlex

import pytest
import yaml
from conftest import config_of
from miniature import WORLD

from whysgd.errors import UserError
from whysgd.results import paths
from whysgd.study.config import load_config
from whysgd.study.outputs import outputs, page, page_files, summary_files
from whysgd.study.spec import RunSpec
from whysgd.study.workflow import Study

GRAFTED, SMALL = "vgg16-cifar10.exter-graft", "vgg16-cifar10.sb-sgd"


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A function that makes the study of the miniature world, with changes of its scale, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def make(settings=None, **changes):
        config = copy.deepcopy(WORLD)
        config["scales"]["tiny"] |= changes
        (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(config))
        return Study(load_config(["tiny.yaml"], settings or {}))

    return make


def run_file(run, seeds, file):
    return f"results/tiny/runs/{run}/{seeds}/{file}"


def test_batches_go_by_the_papers_rules_and_by_what_is_there(study):
    rules = {**WORLD["scales"]["tiny"]["rules_of"], "iyer2023": {"seeds_per_job": 1}}
    assert study().batches["geiping2022", "fb"] == [[0, 1]]
    assert study(rules_of=rules).batches["iyer2023", "explore-0"] == [[0], [1]]
    assert study(rules_of=rules).batches["geiping2022", "fb"] == [[0, 1]]
    (paths.run_folder("tiny", "geiping2022", "fb") / "seeds-1").mkdir(parents=True)
    found = study({"seeds": [0, 1, 2]})
    assert found.batches["geiping2022", "fb"] == [[0], [1], [2]]
    assert found.batches["geiping2022", "sgd"] == [[0, 1, 2]]
    files = [run_file("geiping2022/fb", f"seeds-{seed}", "history.csv") for seed in (0, 1, 2)]
    assert [file for file in found.batch_files("history.csv", "geiping2022") if "/fb/" in file] == files
    assert sum(len(found.batch_files("history.csv", paper)) for paper in found.config["papers"]) == 15 + 2


def test_a_batch_is_trained_on_its_data_and_the_logs_of_its_seeds(study):
    files = {"manifest": "manifest.json", "train": "train.safetensors", "test": "test.safetensors"}
    data = {name: f"results/data/digits/{file}" for name, file in files.items()}
    assert study().training_inputs("geiping2022", "fb", "seeds-0-1") == data
    (paths.run_folder("tiny", "novack2023", SMALL) / "seeds-0").mkdir(parents=True)
    split = study()
    norms = [run_file(f"novack2023/{SMALL}", f"seeds-{seed}", "gradient_norms.csv") for seed in (0, 1)]
    assert split.training_inputs("novack2023", GRAFTED, "seeds-0-1") == {**data, "norms": norms}
    assert split.training_inputs("novack2023", GRAFTED, "seeds-1")["norms"] == norms[1:]


def test_a_run_on_stored_copies_reads_their_store(study):
    mini = Study(config_of(geiping2022=["fixed_dataset"]))
    run, spec = next((key, spec) for key, spec in mini.runs.items() if spec.store)
    assert mini.training_inputs(*run, "seeds-0")["store"] == f"results/stores/digits/{spec.store.name}.lmdb"
    for clean_first in (False, True):
        copies = spec.store.replace(clean_first=clean_first)
        mini.runs = {run: spec.replace(store=copies)}
        options = mini.store_options("digits", copies.name).split()
        assert ("--clean-first" in options) == clean_first
    assert options[:4] == ["--copies", str(spec.store.copies), "--crop-padding", str(spec.store.crop_padding)]


def test_a_specification_is_handed_over_without_its_seed(study):
    handed = json.loads(study().spec_json("geiping2022", "fb-reg"))
    assert RunSpec.from_dict({**handed, "seed": 1}).run == "fb-reg"
    assert "seed" not in handed


def test_measures_share_a_file_or_have_one_each(study):
    shared = study().measure_files("iyer2023")
    assert shared[0] == "results/tiny/measures/iyer2023/explore-0/seeds-0-1/all.json"
    assert len(shared) == 4
    alone = study({"measures": ["keskar", "fisher"]}, measures_share_a_job=False)
    names = [file.rpartition("/")[2] for file in alone.measure_files("iyer2023")]
    assert names == ["keskar.json", "fisher.json"] * 4
    assert (alone.measures_of_job("all"), alone.measures_of_job("hessian")) == (["keskar", "fisher"], ["hessian"])
    assert study({"measures": []}).measure_files("iyer2023") == []


def test_profiles_are_of_every_seed_and_planes_of_the_first(study):
    found = study(seeds_per_job=1)
    planes = {"sgd": [0], "fb": [0], "fb-strong-reg": [0]}
    assert found.drawn("geiping2022", "main", "plane") == planes
    assert set(found.drawn("geiping2022", "main", "line")) > set(planes)
    assert found.drawn("geiping2022", "main", "line")["fb"] == [0, 1]
    assert found.landscape_options("geiping2022", "fb", "plane") == "--points 3 --seed 0 --images 128"
    assert found.landscape_options("geiping2022", "fb", "line") == "--points 5 --images 128"
    points = found.landscape_points("geiping2022", "main", "plane")
    assert list(points)[:2] == [f"results/tiny/landscapes/geiping2022/sgd/seeds-0/plane_{n}-of-2.csv" for n in (0, 1)]
    assert list(points.values()) == [(run, "seeds-0") for run in planes for _ in (0, 1)]
    lines = found.landscape_points("geiping2022", "main", "line").values()
    assert [seeds for run, seeds in lines if run == "fb"] == ["seeds-0", "seeds-1"]
    shared = study().landscape_points("geiping2022", "main", "line").values()
    assert [seeds for run, seeds in shared if run == "fb"] == ["seeds-0-1"]


def test_of_records_a_figure_draws_those_that_have_its_part(study):
    config = dict(study().config)
    parts = {0: ("a.json", []), 1: ("b.json", ["line", "plane"]), 2: ("c.json", ["line", "plane"])}
    config["recorded"] = {"geiping2022": {"sgd": parts, "fb": {0: parts[0]}}}
    found = Study(config | {"papers": ["geiping2022"]})
    assert found.figure_inputs("geiping2022", "main", "contours")["plane"] == ["b.json"]
    assert found.figure_inputs("geiping2022", "main", "landscape")["line"] == ["b.json", "c.json"]
    assert found.drawn("geiping2022", "main", "plane") == {"sgd": [1], "fb": []}


def test_a_landscape_is_looked_at_as_the_scale_says(study):
    own = {"line_points": 5, "alpha": [-0.5, 2.0], "norm": "layer", "training": True}
    words = shlex.split(study(measuring={"landscape": own}).landscape_options("geiping2022", "fb", "line"))
    assert words[:3] == ["--points", "5", "--options"]
    assert json.loads(words[3]) == {key: own[key] for key in ("alpha", "norm", "training")}


def test_figures_are_drawn_where_their_numbers_are(study):
    # A map of one row would repeat the line.
    assert study().figures("simsekli2019", "mnist") == ["width"]
    two = {"simsekli2019": {"mnist": {"depth": [2, 4], "width": [4, 8]}}}
    assert study(grids=two).figures("simsekli2019", "mnist") == ["width", "heatmap"]
    skipped = WORLD["scales"]["tiny"]["skip"]
    deep = [f"mnist-{loss}-d4-w{width}" for loss in ("cross_entropy", "linear_hinge") for width in (4, 8)]
    one = {**skipped, "simsekli2019": [*skipped["simsekli2019"], *deep]}
    assert study(grids=two, skip=one).figures("simsekli2019", "mnist") == ["width"]
    assert study({"measures": ["fisher"]}).figures("simsekli2019", "mnist") == []
    assert study({"measures": []}).figures("geiping2022", "main") == ["generalization", "comparison", "curves"]
    nothing = {"geiping2022": ["sgd", "fb", "fb-long", "fb-clip", "fb-reg", "fb-strong-reg", "fb-practice"]}
    both = study({"papers": ["geiping2022"]}, skip=nothing, tables={"geiping2022": ["main", "fixed_dataset"]})
    assert both.figures("geiping2022", "main") == []
    # With one row there is nothing to compare.
    settings, but_one = {"papers": ["geiping2022"], "measures": []}, {"geiping2022": nothing["geiping2022"][1:]}
    alone = study(settings, skip=but_one, tables={"geiping2022": ["main"]})
    assert alone.figures("geiping2022", "main") == []
    with pytest.raises(UserError, match="config: papers: geiping2022 has no run at scale tiny; leave it out"):
        study(skip=nothing)


def test_everything_that_is_made_is_listed_once(study):
    found = study()
    files = outputs(found, "simsekli2019")
    assert len(files) == len(set(files))
    assert "results/tiny/tables/simsekli2019_mnist.tex" in files
    assert "results/tiny/figures/simsekli2019_mnist_width.svg" in files
    assert "results/tiny/claims/simsekli2019.md" in files
    assert run_file("simsekli2019/mnist-linear_hinge-d2-w4", "seeds-0-1", "metrics.json") in files
    shown = page_files(found)
    assert "results/tiny/figures/simsekli2019_mnist_width.svg" in shown
    assert not [file for file in shown if file.endswith((".png", ".tex", ".html"))]
    assert summary_files(study({"measures": []}), "table.md") == []
    contents = page(found)
    assert [part["paper"] for part in contents] == WORLD["papers"]
    (table,) = contents[0]["tables"]
    assert list(table["figures"]) == [
        f"results/tiny/figures/geiping2022_main_{kind}.svg"
        for kind in ("generalization", "comparison", "curves", "landscape", "contours")
    ]
    assert all(table["figures"].values())
    assert contents[0]["at_paper"]["sgd"]["epochs"] == "300"


def test_jobs_ask_for_more_with_each_attempt_up_to_the_longest(study):
    found = study({"device": "cpu", "cluster": {"minutes": 7, "margin": 2, "longest": 90, "memory_mb": 1000}})
    cost = found.training_cost("geiping2022", "fb", "seeds-0-1")
    assert 0 < found.training_cost("geiping2022", "fb", "seeds-0").seconds < cost.seconds
    assert [found.minutes(cost, attempt) for attempt in (1, 2, 9)] == [7, 14, 90]
    assert found.megabytes(cost, 2) == 2 * found.megabytes(cost, 1) >= 2000


UNKNOWN = {
    "run": (lambda study: study.spec("geiping2022", "fbb"), r"no run geiping2022/fbb at scale tiny; allowed: geiping2022/sgd"),
    "paper": (lambda study: study.spec("geiping", "fb"), r"no run geiping/fb at scale tiny; allowed: geiping2022, novack2023"),
    "table": (lambda study: study.table("geiping2022", "x"), r"no table geiping2022/x at scale tiny; allowed: geiping2022/main"),
    "picture": (lambda study: study.trajectories("geiping2022"), r"papers/geiping2022.yaml has no trajectories"),
}  # fmt: skip


@pytest.mark.parametrize(("ask", "message"), UNKNOWN.values(), ids=UNKNOWN.keys())
def test_what_is_not_there_is_named_with_what_is(study, ask, message):
    with pytest.raises(UserError, match=message):
        ask(study())


def test_classes_of_an_image_folder_make_it_newer_and_have_no_braces(study, tmp_path):
    for name in ("train/b", "train/a", "test/a"):
        (tmp_path / "images" / name).mkdir(parents=True)
    own = {"mine": {"source": "image_folder", "path": str(tmp_path / "images"), "label": "mine"}}
    found = study({"datasets": own})
    names = ["train", "train/a", "train/b", "test", "test/a"]
    assert found.class_folders("mine") == [str(tmp_path / "images" / name) for name in names]
    assert found.class_folders("digits") == []
    (tmp_path / "images/train/{x}").mkdir()
    with pytest.raises(UserError, match="must have no braces in its name"):
        found.class_folders("mine")
