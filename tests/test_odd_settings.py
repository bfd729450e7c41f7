"""Numbers, texts, paths and files of settings that cannot be: one line for each, at once."""

import json
import re

import pytest
import yaml
from conftest import ROOT, error_of, make_dataset, make_spec, one_line
from test_safety import PAPER

from whysgd.models.build import build_model
from whysgd.study.config import load_config, retyped, validate_config
from whysgd.study.paper import Row
from whysgd.study.papers import expand
from whysgd.study.spec import RunSpec
from whysgd.study.workflow import Study
from whysgd.training.loop import Trainer

BIG = 10**9


def mini(**changes):
    return {"papers": ["geiping2022"], "scales": {"mini": changes}}


# What a file says, and the line, which names the file or the paper and the key.
SETTINGS = {
    "an infinite rate": (mini(lr_factor=1e308), r"own.yaml: scales.mini.lr_factor = 1e\+308: must be at most 1e\+30"),
    "a vanishing divisor": (
        {"papers": ["novack2023"], "scales": {"mini": {"rules_of": {"novack2023": {"strength_divisor": 1e-300}}}}},
        r"papers/novack2023.yaml: .*strength = .*must be at most 1e\+30",
    ),
    "threads": ({"threads": 10**12}, "own.yaml: threads = 1000000000000: must be at most 1024"),
    "some threads": ({"threads": BIG}, "own.yaml: threads = 1000000000: must be at most 1024"),
    "seeds of a table": (mini(table_seeds={"geiping2022": {"main": BIG}}), "own.yaml: .*main = 1000000000: must be at most 100000"),
    "a seed": ({"seeds": [10**30]}, "own.yaml: seeds = .*must be at most 1e"),
    "evaluations": ({"evaluations": BIG}, "own.yaml: evaluations = 1000000000: must be at most 100000"),
    "points": (mini(measuring={"landscape": {"plane_points": BIG}}), "plane_points = 1000000000: must be at most 1001"),
    "jobs": (mini(measuring={"landscape": {"plane_chunks": BIG}}), "plane_chunks = 1000000000: must be at most 100000"),
    "a crop": (mini(augmentation={"crop_padding": 10**6, "flip": False}), r"crop_padding = 1000000 at scale mini: must be at most 8"),
    "a wide network": (mini(models={"*": "fc_d2_w9999999"}), "model = 'fc_d2_w9999999': has 739,999,926 parameters; allowed: at most"),
    "a network that is too deep": (mini(models={"*": "vgg11_half"}), r"model = 'vgg11_half': is not for images of 8×8 \(Given input size"),
    "all of a paper skipped": (
        {**mini(tables={"geiping2022": ["main"]}, skip={"geiping2022": ["sgd", "fb", "fb-long", "fb-clip", "fb-reg", "fb-strong-reg", "fb-practice"]})},
        "config: papers: geiping2022 has no run at scale mini",
    ),
    "NaN": ({"checkpoint_seconds": float("nan")}, "own.yaml: checkpoint_seconds = nan: must be a finite number"),
    "a nested NaN": (mini(lr_factor=float("nan")), "own.yaml: scales.mini.lr_factor = nan: must be a finite number"),
    "a number that YAML takes for a text": ("checkpoint_seconds: 1e-1", "own.yaml: checkpoint_seconds = '1e-1': must be a finite number; write 0.1$"),
    "another one": ("checkpoint_seconds: 1.5e3", "own.yaml: checkpoint_seconds = '1.5e3': must be a finite number; write 1500.0$"),
    "a small one": ("checkpoint_seconds: 1E-5", "own.yaml: checkpoint_seconds = '1E-5': must be a finite number; write 1.0e-05$"),
    "NUL in a path": ('data_dir: "a\\0b"', r"own.yaml: data_dir = 'a\\x00b': must be a path of printable letters"),
    "a line break in a path": ('data_dir: "a\\nb"', "own.yaml: data_dir = .*: must be a path of printable letters"),
    "no home of such a user": ("data_dir: ~nobody-of-that-name/x", r"own.yaml: data_dir = .*: ~ must stand for a home"),
    "an empty path": ("data_dir: ''", "own.yaml: data_dir = '': must not be empty"),
    "NUL in a container": ('container: "a\\0b"', "own.yaml: container = .*: must be a path of printable letters"),
    **{
        f"an unknown paper under {key}": (mini(**{key: {"geipin2022": value}}), f"own.yaml: scales.mini.{key}.geipin2022 = 'geipin2022': allowed: geiping2022.*did you mean geiping2022")
        for key, value in (("tables", ["main"]), ("skip", ["sgd"]), ("rules_of", {}), ("grids", {}), ("table_seeds", {}))
    },
    "UTF-16": ("threads: 2".encode("utf-16"), "own.yaml: cannot be read .*utf-8"),
    "Latin-1": (b"scale: mini # \xfc", "own.yaml: cannot be read .*utf-8"),
    "a picture": (bytes(range(256)), "own.yaml: (cannot be read|not YAML)"),
    "zeros": (bytes(100), "own.yaml:.* not YAML"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "message"), SETTINGS.values(), ids=SETTINGS.keys())
def test_settings_that_cannot_be_are_one_line_in_planning(tmp_path, monkeypatch, capsys, content, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    content = yaml.safe_dump(content) if isinstance(content, dict) else content
    (tmp_path / "own.yaml").write_bytes(content.encode() if isinstance(content, str) else content)
    line = error_of(capsys, "plan", "--configfile", "own.yaml")
    assert re.search(f"^error: .*{message}", line), line


def test_an_option_of_torch_is_no_text_that_was_meant_as_a_number():
    values = make_spec(momentum=0.0, nesterov=False, weight_decay=0.0).to_dict()
    values["optimizer"] = {"name": "torch.optim:Adam", "eps": "1e-8"}
    with pytest.raises(ValueError, match=r"optimizer.eps = '1e-8': must be a number; write 1.0e-08"):
        RunSpec.from_dict(values)
    values["optimizer"]["eps"] = 1e-8
    assert RunSpec.from_dict(values).optimizer.model_extra == {"eps": 1e-8}


@pytest.mark.parametrize("batch", [80, "all"])
def test_a_sample_is_not_larger_than_what_it_is_drawn_from(load_own_paper, monkeypatch, batch):
    penalty = "lr: 0.1, penalty: {name: fisher_trace, strength: 0.1, sample: SIZE}"
    for size, allowed in ((8, True), (513, False)):
        written = f"batch: {batch}, micro_batch: 8, {penalty.replace('SIZE', str(size))}"
        load_own_paper(PAPER, ("batch: micro_batch, micro_batch: 8, lr: 0.1", written))
        config = validate_config({"scale": "s", "scales": {"s": {"seeds": [0]}}}) | {"papers": ["mine"]}
        if allowed:
            assert len(expand(config)) == 1
            continue
        most = 512 if batch == "all" else 80
        with one_line(rf"penalty.sample = 513 at scale s: must be at most {most}"):
            expand(config)


def test_texts_of_digits_and_homes_are_read_as_meant(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    datasets = {"mine": {"source": "image_folder", "path": "~/x", "label": 2024}}
    read = load_config(settings={"data_dir": retyped("2024"), "datasets": datasets, "container": "~/c.sif"})
    assert read["data_dir"] == "2024"
    assert read["datasets"]["mine"]["path"] == f"{tmp_path}/x"
    assert read["datasets"]["mine"]["label"] == "2024"
    assert read["container"] == f"{tmp_path}/c.sif"
    assert load_config(settings={"data_dir": "~"})["data_dir"] == str(tmp_path)
    assert load_config(settings={"data_dir": "./~"})["data_dir"] == "./~"
    assert Row(run=1, label=2).model_dump(include={"run", "label"}) == {"run": "1", "label": "2"}


TRAIN = ["train", "geiping2022/sgd", "--out", "OUT/run"]
ARGUMENTS = {
    "threads": ([*TRAIN, "--threads", 10**12], r"train: argument --threads: 1000000000000: must be at most 1024"),
    "no thread": ([*TRAIN, "--threads", 0], r"train: argument --threads: 0: must be at least 1"),
    "half a thread": ([*TRAIN, "--threads", 1.5], r"train: argument --threads: 1.5: must be a whole number"),
    "a word": ([*TRAIN, "--threads", "two"], r"train: argument --threads: two: must be a whole number"),
    "NaN": ([*TRAIN, "--checkpoint-seconds", "nan"], r"train: argument --checkpoint-seconds: nan: must be a finite number"),
    "infinity": ([*TRAIN, "--wait-seconds", "inf"], r"train: argument --wait-seconds: inf: must be a finite number"),
    "a negative seed": ([*TRAIN, "--seed", "-1"], r"train: .*--seed"),
    "an unknown option": ([*TRAIN, "--sede", "1"], "train: --sede: no such argument; did you mean --seed?"),
    "a store for a run without": ([*TRAIN, "--data", "OUT/digits", "--store", "gone"], "gone: sgd is no run on stored copies"),
    "norms for a run without": ([*TRAIN, "--data", "OUT/digits", "--norms", "gone"], "gone: sgd is no run on grafted norms"),
    "points": (["landscape", "line", "--run", "x", "--points", BIG], "landscape: argument --points: 1000000000: must be at most 1001"),
    "a crop": (["build-store", "x", "--copies", 2, "--data", "OUT/digits", "--crop-padding", 10**6], "crop_padding = 1000000: must be at most 8"),
    "copies": (["build-store", "x", "--copies", BIG, "--data", "OUT/digits"], "the disk has too little room: the build needs"),
    "a folder that takes no files": (["build-store", "x", "--copies", 2, "--data", "OUT/digits", "--out", "/proc/x.lmdb"], r"/proc/x.lmdb: cannot be written"),
    "a run there": ([*TRAIN[:2], "--data", "OUT/digits", "--out", "/proc/x"], "/proc/x: cannot be used as the run's folder"),
    "a log that is gone": (["explain-failure", "OUT/gone"], "gone: No such file or directory"),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), ARGUMENTS.values(), ids=ARGUMENTS.keys())
def test_arguments_that_cannot_be_are_one_line(data, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").symlink_to(data)
    line = error_of(capsys, *(str(one).replace("OUT", str(tmp_path)) for one in arguments))
    assert re.search(f"^error: .*{message}", line), line


# What does not fit 23 images of 8×8, and the line.
MISFITS = {
    "a deep network": ({"model": "vgg11_half"}, "model = 'vgg11_half': is not for images of 8×8"),
    "nothing held out": ({"held_out": 0.01}, "held_out = 0.01: leaves 23 of 23 images to train on"),
    "a large micro-batch": ({"micro_batch": 24, "batch": 24}, "micro_batch = 24: must be at most 23"),
    "a large probe": ({"probe": {"every": 1, "micro_batch": 8, "micro_batches": 3}}, "probe = .*must be at most 23"),
    "a late switch": ({"batch": 5, "epochs": 2, "switch": [{"at": 10, "unit": "step", "to": "all"}]}, "switch = 10: must be before the run's end"),
    "a switch after it": ({"batch": "all", "epochs": 20, "switch": [{"at": 30, "unit": "step", "to": 5}]}, "switch = 30: must be before the run's end"),
    "a late epoch": ({"epochs": None, "steps": 5, "batch": 5, "switch": [{"at": 1, "to": "all"}]}, "switch = 1: must be before the run's end"),
    "a noise twice": ({"transform": [{"name": "gradient_noise", "additive": 1.0}] * 2}, "transform: names one twice"),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), MISFITS.values(), ids=MISFITS)
def test_what_does_not_fit_is_one_line_in_training(data, tmp_path, capsys, changes, message):
    plain = make_spec(penalty=None, clip=None, micro_batch=5).to_dict()
    values = {key: value for key, value in (plain | changes).items() if key != "seed"}
    line = error_of(capsys, "train", "--spec", json.dumps(values), "--data", data, "--out", tmp_path / "run")
    assert re.search(f"^error: .*{message}", line), line


NETWORK = """
import torch

class Drops(torch.nn.Module):
    def __init__(self, num_classes, own=0.0, twice=False):
        super().__init__()
        self.drop, self.head = torch.nn.Dropout(), torch.nn.Linear(64, num_classes)
        self.own, self.twice = own, twice

    def forward(self, x):
        x = self.drop(x.mean(1).flatten(1))
        x = torch.nn.functional.dropout(x, self.own, self.training) if self.own else x
        return self.head(self.drop(x) if self.twice else x)

class Pair(Drops):
    def forward(self, x):
        return super().forward(x), x

def functional(num_classes):
    return Drops(num_classes, own=0.5)

def rarely(num_classes):
    return Drops(num_classes, own=1e-9)

def wide(num_classes):
    return Drops(num_classes + 1)

def twice(num_classes):
    return Drops(num_classes, twice=True)

class Random(torch.nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.register_buffer("places", torch.randn(64, 4))
        self.head = torch.nn.Linear(4, num_classes)

    def forward(self, x):
        return self.head(x.mean(1).flatten(1) @ self.places)
"""
FOREIGN = {
    "functional": "draws random numbers of its own; dropout must be torch.nn.Dropout layers",
    "rarely": "draws random numbers of its own",
    "Pair": r"returns tuple in training; needed are logits \(2, 10\)",
    "wide": r"returns \(2, 11\) in training; needed are logits \(2, 10\)",
    "twice": "drops twice in one layer; each place needs a torch.nn.Dropout of its own",
}


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    (tmp_path / "odd_networks.py").write_text(NETWORK)
    monkeypatch.syspath_prepend(tmp_path)


def test_a_network_from_elsewhere_draws_in_layers_that_are_used_once(elsewhere):
    build_model("odd_networks:Drops", 3, 10, 0, 8)
    with one_line("model = 'odd_networks:Drops': is not for images of 9×9"):
        build_model("odd_networks:Drops", 3, 10, 0, 9)
    for name, message in FOREIGN.items():
        with one_line(f"model = 'odd_networks:{name}': {message}"):
            build_model(f"odd_networks:{name}", 3, 10, 0, 8)


def test_constants_that_differ_between_seeds_need_jobs_of_their_own(elsewhere):
    spec = make_spec(model="odd_networks:Random", penalty=None, clip=None)
    Trainer([spec], make_dataset()).step()
    with one_line("its constant buffers differ between seeds; each seed needs a job of its own"):
        Trainer([spec, spec.replace(seed=spec.seed + 1)], make_dataset())


def test_the_shipped_scales_can_be_planned():
    for overlays in ([], ["small"], ["midi"], ["paper"], ["paper", "cpu"]):
        assert Study(load_config([ROOT / f"config/{name}.yaml" for name in overlays])).runs
