from typing import get_args

import pytest
import yaml
from conftest import one_line
from pydantic import BaseModel

from whysgd.errors import UserError
from whysgd.study.config import Config, load_config, retyped, validate_config
from whysgd.study.paper import Paper, SomeSettings
from whysgd.study.papers import expand
from whysgd.study.reference import files
from whysgd.study.registry import names, settings_of
from whysgd.study.settings import ImageTransform
from whysgd.study.spec import RunSettings, RunSpec
from whysgd.study.validation import ROOT


def overlay(tmp_path, content):
    file = tmp_path / "mine.yaml"
    file.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return file


BAD = {
    "unknown key": ({"sede": 1}, "mine.yaml: sede: unknown key; allowed here: .*seeds"),
    "unknown nested key": ({"scales": {"mini": {"time": 3}}}, r"mine.yaml: scales.mini.time: unknown key; allowed"),
    "wrong type": ({"threads": "two"}, "mine.yaml: threads = 'two': must be a whole number"),
    "negative seed": ({"seeds": [0, -1]}, r"mine.yaml: seeds\[1\] = -1: must be at least 0"),
    "repeated seed": ({"seeds": [1, 1]}, r"mine.yaml: seeds = \[1, 1\]: must not repeat"),
    "no seeds": ({"seeds": []}, r"mine.yaml: seeds = \[\]: must have at least 1"),
    "unknown scale": ({"scale": "huge"}, "mine.yaml: scale = 'huge': allowed: mini, small, midi, paper"),
    "unknown paper": ({"papers": ["nobody2020"]}, r"mine.yaml: papers\[0\] = 'nobody2020': allowed: geiping2022"),
    "a path as a name": ({"scale": "../x"}, "mine.yaml: scale = '../x': must be a name"),
    "incomplete data set": ({"datasets": {"a": {"source": "image_folder"}}}, "mine.yaml: datasets.a: path must be given"),
    "half a seed": ({"seeds": [5.0]}, r"mine.yaml: seeds\[0\] = 5.0: must be a whole number"),
    "truth for a number": ({"evaluations": True}, "mine.yaml: evaluations = True: must be a whole number"),
    "not YAML": ("a: 1\nb: [1, 2\nc: 3\n", "mine.yaml:3: not YAML"),
    "a key that is given twice": ("seeds: [1]\nthreads: 1\nseeds: [2]\n", "mine.yaml:3: .*key 'seeds' is given twice"),
    "no text as a key": ({1: 2}, r"mine.yaml: \[1\]: unknown key; allowed"),
    "taken data set": (
        {"datasets": {"mnist": {"source": "image_folder", "path": "x"}}}, "mine.yaml: datasets.mnist: the name is taken",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD.keys())
def test_each_mistake_is_one_line_with_file_key_and_what_is_allowed(tmp_path, content, message):
    with one_line(message):
        load_config([overlay(tmp_path, content)])


IMPOSSIBLE = {
    "unknown network": ({"models": {"*": "alexnet12"}}, r"mine.yaml: scales.mini.models.\* = 'alexnet12': allowed: same, .*resnet18.*alexnet_ch<channels>"),
    "unknown data set": ({"datasets": {"*": "imagenet"}}, r"mine.yaml: scales.mini.datasets.\* = 'imagenet': allowed: same, digits"),
    "time without end": ({"datasets": {"*": "digits"}, "time_divisor": 1e-9}, "scales.mini.time_divisor = 1e-09: must be at least 0.001"),
    "no divisor for a paper": ({"rules_of": {"geiping2022": {"time_divisor": None}}}, "scales.mini.rules_of.geiping2022.time_divisor = None: must be a finite number"),
    "block too small": ({"datasets": {"*": "digits"}, "micro_batch_divisor": 0.1}, "scales.mini.micro_batch_divisor = 0.1: must be at least 1"),
    "padding too large": (
        {"datasets": {"*": "digits"}, "augmentation": {"crop_padding": 9, "flip": False}},
        "runs.sgd.augment.crop_padding = 9 at scale mini: must be at most 8",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("scale", "message"), IMPOSSIBLE.values(), ids=IMPOSSIBLE.keys())
def test_what_cannot_run_is_refused_before_anything_runs(tmp_path, scale, message):
    with one_line(message):
        expand(load_config([overlay(tmp_path, {"scales": {"mini": {"seeds": [0], **scale}}})]))


def test_a_file_that_is_missing_is_named(tmp_path):
    with one_line(r"gone\.yaml: no such file"):
        load_config([tmp_path / "gone.yaml"])


def test_an_image_folder_that_is_not_there_is_named_before_anything_runs(tmp_path):
    datasets = {"mine": {"source": "image_folder", "path": str(tmp_path / "gone")}}
    scales = {"mini": {"seeds": [0], "datasets": {"*": "mine"}}}
    with one_line(r"datasets.mine.path = '.*gone': no images in .*gone/train/<class>/"):
        expand(load_config([overlay(tmp_path, {"datasets": datasets, "scales": scales})]))


def test_defaults_are_filled_in_at_every_level():
    config = validate_config({"scale": "a", "scales": {"a": {"seeds": [4]}}})
    assert config["device"] == "auto"
    assert config["scales"]["a"]["time_divisor"] == 1
    assert config["scales"]["a"]["models"] == {}


def test_values_of_the_command_line_get_their_types_back():
    assert retyped("@foo") == "@foo"
    found = retyped({"seeds": ["0", "1"], "threads": "2", "name": "abc"})
    assert found == {"seeds": [0, 1], "threads": 2, "name": "abc"}


def models_in(model):
    """A typed model and all within it."""
    yield model
    for field in model.model_fields.values():
        for kind in (field.annotation, *get_args(field.annotation)):
            for one in (kind, *get_args(kind)):
                if isinstance(one, type) and issubclass(one, BaseModel):
                    yield from models_in(one)


@pytest.mark.parametrize("top", [Config, Paper, RunSpec, "penalty", "transform", "optimizer", "schedule", "measure"])
def test_models_forbid_unknown_keys_and_describe_every_key(top):
    for model in [settings_of(top, name) for name in names(top)] if isinstance(top, str) else models_in(top):
        # The arguments of torchvision's transforms are its own.
        assert model.model_config["extra"] == ("allow" if model is ImageTransform else "forbid"), model
        assert model.__doc__, model
        assert [key for key, field in model.model_fields.items() if not field.description] == [], model


def test_what_follows_from_the_models_does_not_drift():
    for path, text in files().items():
        assert (ROOT / path).read_text(encoding="utf-8") == text, f"{path}: run `whysgd schema`"


@pytest.mark.parametrize("top", [Config, Paper, RunSettings])
def test_the_page_of_settings_has_every_key(top):
    page = "".join(text for path, text in files().items() if path.startswith("docs/settings"))
    # Those of a run have a section of their own.
    for model in {*models_in(top)} - {SomeSettings}:
        for key, field in model.model_fields.items():
            assert f"| `{field.alias or key}` |" in page, (model.__name__, key)


@pytest.mark.parametrize("name", ["small", "midi", "paper", "image_folder"])
def test_overlays_are_valid(name):
    load_config([ROOT / f"config/{name}.yaml"])


def test_all_mistakes_are_told_with_the_nearest_name(tmp_path):
    content = {"sede": [1], "device": "gpu", "scales": {"mini": {"lr_facter": 1, "seeds": [0.5]}}}
    with pytest.raises(UserError) as caught:
        load_config([overlay(tmp_path, content)])
    lines = str(caught.value).splitlines()
    assert len(lines) == 4
    assert [line.partition("; did you mean ")[2] for line in lines if "unknown key" in line] == ["lr_factor?", "seeds?"]
