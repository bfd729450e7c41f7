"""Measuring finished runs from their files, as the workflow does."""

import inspect
import json
import math
import re
import shutil
from importlib import import_module

import pandas as pd
import pytest
import torch
from conftest import error_of, flip_a_bit, folder_of, make_dataset, make_spec, one_line

from whysgd.__main__ import main
from whysgd.files import read_json, write_json
from whysgd.measures.catalog import MEASURES, QUANTITIES
from whysgd.measures.landscape_part import landscape_of
from whysgd.measures.run import load_runs, measure_batch
from whysgd.results.metrics import read_metrics
from whysgd.study.config import load_config
from whysgd.study.registry import make
from whysgd.study.spec import RunSpec
from whysgd.training.loop import Trainer, train
from whysgd.training.schedules import learning_rate

QUICK = {
    "keskar": {"steps": 3, "batch": 5, "ascents": 2}, "flatness": {"directions": 2}, "gradient_noise": {"micro_batch": 4, "groups": 3},
    "tail_index": {"micro_batch": 4}, "hessian": {"products": 6, "probes": 2}, "fisher": {"first": 7},
}  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Folders of two seeds of a run with batch norm, a penalty and held-out images, and of their data."""
    folder = tmp_path_factory.mktemp("measured")
    data = folder_of(make_dataset(train=25), folder / "data")
    train([make_spec(held_out=0.12, epochs=3, seed=seed) for seed in (3, 4)], data, folder / "run")
    return folder / "run", data


def first(run, data, **options):
    """The first seed of a finished batch, loaded."""
    return next(load_runs(run, data, **options))


def command(*words):
    return main([str(word) for word in words])


def test_every_measure_leaves_its_numbers_and_the_run_as_it_was(finished, tmp_path):
    run, data = finished
    before = {file.name: file.read_bytes() for file in run.iterdir() if file.is_file()}
    measure_batch(list(MEASURES), load_runs(run, data), tmp_path / "all.json", QUICK)
    results = read_json(tmp_path / "all.json")
    assert [(one["seed"], one["measure"]) for one in results] == [(seed, name) for seed in (3, 4) for name in MEASURES]
    for found in results:
        assert found["quantities"].keys() == MEASURES[found["measure"]].keys()
        assert (found["paper"], found["run"], found["status"]) == ("geiping2022", "test", "finished")
        assert found["options"] == QUICK.get(found["measure"], {})
        assert found["data"] == {"label": "tiny", "images": 22, "test_images": 11}
        assert found["cost"]["seconds"] > 0
    assert {file.name: file.read_bytes() for file in run.iterdir() if file.is_file()} == before


def test_accuracies_are_those_of_the_training(finished, tmp_path):
    run, data = finished
    measure_batch(["accuracy_gap"], load_runs(run, data), tmp_path / "gap.json")
    for result, metrics in zip(read_json(tmp_path / "gap.json"), read_metrics(run / "metrics.json"), strict=True):
        found = {name: entry["value"] for name, entry in result["quantities"].items()}
        final = metrics["final"]
        for name in ("train_accuracy", "test_accuracy", "train_loss", "test_loss"):
            assert found[name] == pytest.approx(final[name], rel=1e-5), name
        assert found["accuracy_gap"] == pytest.approx(final["train_accuracy"] - final["test_accuracy"])


def test_only_so_many_images_and_one_of_the_seeds(finished):
    run, data = finished
    assert [len(first(run, data, images=count).train) for count in (None, 9, 100)] == [22, 9, 22]
    assert [one.spec.seed for one in load_runs(run, data, seeds=[4])] == [4]
    with one_line(r"run: has no seed 5; allowed: 3, 4"):
        list(load_runs(run, data, seeds=[5]))


@pytest.mark.parametrize("normalize", [False, True])
def test_images_are_normalized_as_in_training(data, tmp_path, normalize):
    dataset = make_dataset()
    own = {"normalize": {"mean": (0.3,), "std": (0.1,)}} if normalize else {}
    spec = RunSpec.from_dict({**make_spec(epochs=1).to_dict(), **own})
    train([spec], data, tmp_path / "run")
    inputs, labels = next(iter(first(tmp_path / "run", data).train.batches()))
    trainer = Trainer([spec], dataset)
    assert torch.equal(inputs, trainer.normalize(torch.from_numpy(dataset.train.images)))
    assert torch.equal(labels, torch.from_numpy(dataset.train.labels))


def test_a_run_that_diverged_has_no_numbers(data, tmp_path):
    spec = make_spec(lr=1e30, clip=None, penalty=None, schedule=make("schedule", "constant", unit="epoch", warmup=0))
    assert [metrics["status"] for metrics in train([spec], data, tmp_path / "run")] == ["diverged"]
    run = first(tmp_path / "run", data)
    measure_batch(list(MEASURES), [run], tmp_path / "all.json", QUICK)
    for found in read_json(tmp_path / "all.json"):
        assert found["status"] == "diverged"
        assert all(entry["value"] is None for entry in found["quantities"].values())
    landscape_of([run], "line", 5, (0, 1), tmp_path / "line.csv")
    assert pd.read_csv(tmp_path / "line.csv").empty


def test_the_command_line_measures_one_or_all(finished, tmp_path):
    run, data = finished
    run = shutil.copytree(run, tmp_path / "run")
    common = ("--run", run, "--data", data, "--device", "cpu", "--options", json.dumps(QUICK))
    assert command("measure", "keskar", "fisher", *common) == 0
    assert command("measure", "all", *common, "--out", tmp_path / "every.json") == 0
    few, every = (read_json(file) for file in (run / "measures/all.json", tmp_path / "every.json"))
    quantities = {(one["seed"], one["measure"]): one["quantities"] for one in every}
    assert len(quantities) == 2 * len(MEASURES)
    assert len(few) == 4
    assert all(quantities[one["seed"], one["measure"]] == one["quantities"] for one in few)


MISTAKES = {
    "an unknown measure": (("measure", "sharpness"), "error: measure = 'sharpness': no such measure; allowed: accuracy_gap, fisher"),
    "an unknown option": (("measure", "keskar", "--options", '{"keskar": {"step": 1}}'), "error: measure: keskar: step: unknown key; allowed here: .*did you mean steps"),
    "an impossible option": (("measure", "keskar", "--options", '{"keskar": {"steps": 0}}'), "error: measure: keskar: steps = 0: must be at least 1"),
    "a number that is not above 0": (("measure", "keskar", "--options", '{"keskar": {"lr": 0}}'), "error: measure: keskar: .*must be above 0"),
    "a text for a number": (("measure", "flatness", "--options", '{"flatness": {"step": "a"}}'), "error: measure: flatness: step = 'a': must be a finite number"),
    "a number for a truth": (("measure", "fisher", "--options", '{"fisher": {"exact": 1}}'), "error: measure: fisher: exact = 1: must be true or false"),
    "none of the images": (("measure", "fisher", "--options", '{"fisher": {"first": 0}}'), "error: measure: fisher: first = 0: must be at least 1"),
    "a point": (("landscape", "line", "--points", "1"), "error: landscape: argument --points: 1: must be at least 3"),
    "too few images": (("measure", "gradient_noise"), "error: measure: gradient_noise: micro_batch = 128.*22 images make 0 full micro-batches"),
    "too few images for a block": (("landscape", "line", "--points", "3", "--images", "4"), "error: landscape: test: micro_batch = 5: 4 images"),
    "options that are no JSON": (("measure", "keskar", "--options", "{"), "error: measure: argument --options: not JSON"),
    "options of no measure": (("measure", "keskar", "--options", '{"steps": 1}'), "error: measure: --options: must be a mapping of"),
    "an unknown option of a landscape": (("landscape", "line", "--options", '{"norms": "layer"}'), "error: landscape: --options: norms: unknown key; allowed here: .*did you mean norm"),
    "a range that is none": (("landscape", "line", "--options", '{"alpha": [1, -1]}'), "error: landscape: --options: alpha = .*must be a lower and a higher end"),
    "no images": (("measure", "keskar", "--images", "0"), "error: measure: argument --images: 0: must be at least 1"),
    "no such part": (("landscape", "line", "--chunk", "2", "--of", "2"), "error: landscape: --chunk must be below --of"),
}  # fmt: skip


@pytest.mark.parametrize(("words", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_are_one_line(finished, capsys, words, message):
    run, data = finished
    error = error_of(capsys, *words, "--run", run, "--data", data, "--device", "cpu")
    assert re.match(message, error), error


def test_damaged_or_foreign_files_are_named(finished, tmp_path):
    run, data = finished
    with one_line(r"nowhere/metrics\.json: no such file"):
        first(tmp_path / "nowhere", data)
    shutil.copy(run / "metrics.json", tmp_path)
    shutil.copy(run / "best.safetensors", tmp_path)
    flip_a_bit(tmp_path / "best.safetensors", -9)
    with one_line(r"best\.safetensors: was changed after the run wrote it; remove it to train"):
        first(tmp_path, data)
    other = folder_of(make_dataset(train=26), tmp_path / "other")
    with one_line(r"other: is not the data set that the run in .* was trained on"):
        first(run, other)


def test_parts_of_a_landscape_are_the_whole(finished, tmp_path):
    run, data = finished
    loaded = first(run, data)
    landscape_of([loaded], "plane", 3, (0, 1), tmp_path / "whole.csv")
    for part in range(4):
        landscape_of([loaded], "plane", 3, (part, 4), tmp_path / f"{part}.csv")
    whole = pd.read_csv(tmp_path / "whole.csv")
    parts = pd.concat([pd.read_csv(tmp_path / f"{part}.csv") for part in range(4)], ignore_index=True)
    pd.testing.assert_frame_equal(whole, parts)
    assert len(whole) == 9
    center = whole[(whole.alpha == 0) & (whole.beta == 0)].iloc[0]
    best = loaded.metrics["best"]
    assert center.loss == pytest.approx(best["train_loss"], rel=1e-5)
    assert center.accuracy == pytest.approx(best["train_accuracy"])
    theta = torch.cat([p.detach().flatten() for p in loaded.model.parameters()])
    rest = center.full_loss - center.loss - center.penalty
    assert center.penalty > 0
    spec = loaded.spec
    last = learning_rate(spec.schedule, spec.lr, loaded.metrics["steps"])
    assert 0 < last < spec.lr
    final = center.full_loss - center.penalty * (1 - last / spec.lr)
    assert center.final_full_loss == pytest.approx(final, rel=1e-6)
    assert rest == pytest.approx(loaded.spec.weight_decay / 2 * theta.square().sum().item(), rel=1e-4)


def test_the_configuration_has_the_functions_options_and_defaults():
    config = load_config(settings={"scale": "paper"})
    assert config["measures"] == list(MEASURES)
    options = config["scales"]["paper"]["measuring"]
    for name in MEASURES:
        function = getattr(import_module(f"whysgd.measures.{name}"), name)
        parameters = inspect.signature(function).parameters
        given = {key: p.default for key, p in parameters.items() if p.default is not p.empty}
        assert options.get(name, {}) == given, name
    assert len(QUANTITIES) == sum(map(len, MEASURES.values()))


def test_numbers_that_are_not_defined_are_null(finished, tmp_path, monkeypatch):
    from whysgd.measures import keskar
    from whysgd.measures.estimate import Estimate

    run, data = finished
    monkeypatch.setattr(keskar, "keskar", lambda *_: {"keskar_sharpness": Estimate(math.inf, None, 2, (math.nan, 1.0))})
    measure_batch(["keskar"], [first(run, data)], tmp_path / "keskar.json")
    entry = read_json(tmp_path / "keskar.json")[0]["quantities"]["keskar_sharpness"]
    assert entry == {"value": None, "std_error": None, "samples": 2, "each": [None, 1.0]}
    write_json(tmp_path / "again.json", entry)
