"""simsekli2019: its grids at every scale, and the mistakes that a grid can have."""

from itertools import product

import pytest
from conftest import ROOT, specs_at

from whysgd.errors import UserError
from whysgd.study import papers
from whysgd.study.config import load_config
from whysgd.study.papers import expand, load_paper, tables_at
from whysgd.study.registry import make, network

# A second transcription of the published grid.
WIDTHS = [4, 8, 16, 32, 64, 128, 256, 512, 1024]
DEPTHS = [2, 3, 4, 5, 6, 7, 8, 9, 10]
LOSSES = ["cross_entropy", "linear_hinge"]
SEEDS = [0, 1, 2]
STATISTICS = {
    "mnist": ((0.1307,), (0.3081,)),
    "cifar10": ((0.491, 0.482, 0.447), (0.247, 0.243, 0.262)),
    "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
}
FINE = {
    "mnist-cross_entropy-d4-w64", "mnist-linear_hinge-d4-w64",
    "alexnet-cifar10-cross_entropy-ch64", "alexnet-cifar10-linear_hinge-ch64",
}  # fmt: skip


def config_at(scale, **settings):
    return load_config(settings={"scale": scale, "papers": ["simsekli2019"], **settings})


def test_every_cell_of_the_published_grid_is_a_run():
    specs = specs_at("simsekli2019", "paper")
    for dataset, loss, depth, width, seed in product(("mnist", "cifar10"), LOSSES, DEPTHS, WIDTHS, SEEDS):
        spec = specs[f"{dataset}-{loss}-d{depth}-w{width}", seed]
        assert (spec.dataset, spec.loss, spec.seed) == (dataset, loss, seed)
        assert network(spec.model) == ("fully_connected", {"depth": depth, "width": width})
    fc = [run for run, _ in specs if not run.startswith("alexnet")]
    assert len(fc) == 9 * 9 * 2 * 2 * 3 == 972
    alexnet = {run: spec for (run, seed), spec in specs.items() if run.startswith("alexnet") and seed == 0}
    assert len(alexnet) == 2 * 2 * 5
    spec = alexnet["alexnet-cifar100-linear_hinge-ch16"]
    assert (spec.dataset, spec.loss, spec.model) == ("cifar100", "linear_hinge", "alexnet_ch16")
    assert len(specs) == 972 + 60
    assert len({spec.digest for spec in specs.values()}) == len(specs)


def test_the_settings_are_as_published():
    schedule = make("schedule", "step", unit="run", warmup=0, milestones=(0.3333333, 0.6666667), factor=0.5)
    for (run, _), spec in specs_at("simsekli2019", "paper", seeds=[0]).items():
        assert (spec.steps, spec.epochs, spec.stop_accuracy, spec.stop_every) == (65000, None, 100, 100)
        assert spec.noise.test
        assert (spec.normalize.mean, spec.normalize.std) == STATISTICS[spec.dataset]
        assert (spec.micro_batch, spec.batch, spec.shuffle, spec.augment) == (100, 100, False, None)
        assert (spec.lr, spec.momentum, spec.weight_decay, spec.penalty, spec.clip) == (0.1, 0, 0, None, None)
        assert spec.schedule == schedule
        assert spec.noise.points == (100 if run in FINE else 20)


def test_the_grid_is_that_of_the_shared_reference(shared_reference):
    theirs = shared_reference["simsekli2019"]["figures"]["alpha_by_size"]
    assert (theirs["width"], theirs["depth"], theirs["seeds"]) == (WIDTHS, DEPTHS, SEEDS)
    assert theirs["dataset"] == ["mnist", "cifar10"]
    defaults = load_paper("simsekli2019")["defaults"]
    assert (theirs["iterations"], theirs["batch_size"]) == (defaults["steps"], defaults["micro_batch"])
    assert theirs["learning_rate"] == defaults["lr"]


def test_a_laid_out_cell_knows_its_place():
    table = load_paper("simsekli2019")["tables"]["mnist"]
    assert [row["label"] for row in table["rows"][:18:9]] == ["cross entropy, depth 2", "cross entropy, depth 3"]
    cell = table["rows"][-2]
    assert cell["run"] == "mnist-linear_hinge-d10-w512"
    assert cell["axes"] == {"loss": "linear_hinge", "depth": 10, "width": 512}
    assert (cell["label"], cell["column"], cell["metric"]) == ("linear hinge, depth 10", "width 512", "tail_index")
    assert [column["label"] for column in table["columns"].values()] == [f"width {width}" for width in WIDTHS]


@pytest.mark.parametrize(
    ("scale", "depths", "widths", "runs"),
    [("mini", [2, 4], [4, 16, 64], 12), ("midi", [2, 4, 10], [4, 16, 64, 256, 1024], 2 * 30 + 20)],
)
def test_a_scale_thins_the_grid(scale, depths, widths, runs):
    config = config_at(scale, seeds=[0])
    if scale == "mini":
        config["scales"][scale]["tables"]["simsekli2019"] = ["mnist", "iterations"]
    tables = tables_at(config, "simsekli2019")
    assert len(expand(config)) == runs
    cells = [row["axes"] for row in tables["mnist"]["rows"]]
    assert cells == [{"loss": s, "depth": d, "width": w} for s in LOSSES for d in depths for w in widths]
    assert list(tables["mnist"]["columns"]) == list(map(str, widths))
    assert all(row["planned"] for row in tables["mnist"]["rows"])
    # The paper itself keeps all of them.
    assert len(load_paper("simsekli2019")["tables"]["mnist"]["rows"]) == 162
    # What is drawn along the iterations is trained for the grid, too.
    planned = [row["run"] for row in tables["iterations"]["rows"] if row["planned"]]
    assert set(planned) <= FINE
    assert len(planned) == (2 if scale == "mini" else 4)


def test_the_mini_scale_has_even_mini_batches_of_the_published_networks():
    for spec in specs_at("simsekli2019", "mini").values():
        assert (spec.dataset, spec.micro_batch, spec.batch, spec.steps) == ("digits", 16, 16, 650)
        assert 512 % spec.micro_batch == 0
        assert (spec.lr, spec.schedule.milestones) == (0.1, (0.3333333, 0.6666667))
        assert spec.model in {f"fc_d{d}_w{w}" for d in (2, 4, 8) for w in (4, 8, 16, 32, 64)}


def test_a_thousand_runs_are_planned_from_one_reading_of_each_paper(monkeypatch):
    load_paper.cache_clear()
    read, read_yaml = [], papers.read_yaml
    monkeypatch.setattr(papers, "read_yaml", lambda file: read.append(file.stem) or read_yaml(file))
    config = config_at("paper")
    assert len(expand(config)) > 1000
    assert sorted(read) == sorted(config["papers"])


PAPER = """
paper: mine
title: T
defaults: {dataset: digits, batch: micro_batch, micro_batch: 4, epochs: 1, lr: 0.1,
           schedule: {unit: step, warmup: 0, decay: constant}}
runs: {slow: {lr: 0.01, model: fc_d2_w8}}
tables:
  t:
    title: T
    metric: flatness
    figures: [width]
    grid:
      rows: {rate: [0.1, 0.2]}
      columns: {width: [4, 8]}
      run: "r{rate}-w{width}"
      settings: {model: "fc_d2_w{width}", lr: "{rate}"}
      cells: {r0.2-w8: {momentum: 0.5}}
  plain:
    title: Plain
    rows: [{run: r0.2-w8, label: one of the grid}]
claims:
  - {id: a, claim: C, metric: flatness, check: "each(t, plain) > 0.5 and trend(t)"}
"""


def test_a_grid_fills_in_the_values_of_its_axes(load_own_paper):
    runs = load_own_paper(PAPER)["runs"]
    assert list(runs) == ["slow", "r0.1-w4", "r0.1-w8", "r0.2-w4", "r0.2-w8"]
    assert (runs["r0.2-w4"]["lr"], runs["r0.2-w4"]["model"]) == (0.2, "fc_d2_w4")  # a number stays one
    assert ("momentum" in runs["r0.2-w4"], runs["r0.2-w8"]["momentum"]) == (False, 0.5)
    runs = load_own_paper(PAPER, ("settings: {", "settings: {like: slow, "), (', lr: "{rate}"', ""))["runs"]
    assert runs["r0.2-w4"]["lr"] == 0.01


MISTAKES = {
    "rows and a grid": (("    grid:", "    rows: [{run: slow, label: x}]\n    grid:"), "tables.t: rows or a grid must be given, one of them"),
    "neither": (("    rows: [{run: r0.2-w8, label: one of the grid}]", ""), "tables.plain: rows or a grid must be given"),
    "two axes of columns": (("columns: {width: [4, 8]}", "columns: {width: [4], height: [1]}"), "tables.t.grid.columns: must be one axis"),
    "an axis twice": (("rows: {rate", "rows: {width: [1], rate"), "tables.t.grid.columns: must be one axis, and none of those of the rows"),
    "a name without an axis": (('run: "r{rate}-w{width}"', 'run: "r-w{width}"'), r"grid.run = 'r-w\{width\}': must name each axis; missing: \{rate\}"),
    "an unknown axis": (('"fc_d2_w{width}"', '"fc_d{depth}_w4"'), r"grid.settings: no axis \{depth\} in 'fc_d\{depth\}_w4'; allowed: rate, width"),
    "an unknown setting": (('lr: "{rate}"', 'lrr: "{rate}"'), r"tables.t.grid: runs.r0.1-w4.lrr: unknown key; allowed here"),
    "a negative rate": (("rate: [0.1", "rate: [-0.1"), r"tables.t.grid: runs.r-0.1-w4.lr = -0.1: must be above 0"),
    "a value twice": (("width: [4, 8]", "width: [4, 4]"), r"tables.t.grid.columns.width = \[4, 4\]: must not repeat an entry"),
    "a name that is none": (("rate: [0.1, 0.2]", "rate: [0.2, a b]"), "tables.t.grid: runs.ra b-w4: must be a name"),
    "a name that is taken": (('{slow: ', '{r0.1-w4: '), r"grid.run: its run 'r0.1-w4' is there already, with other settings"),
    "a cell of no run": (("cells: {r0.2-w8", "cells: {r0.3-w8"), r"grid.cells.r0.3-w8: no run of the grid; its runs are called r\{rate\}-w\{width\}"),
    "like nothing": (("settings: {", "settings: {like: nope, "), "grid.settings.like = 'nope': no such run; allowed: slow"),
    "a comparison of flatness": (("[width]", "[comparison]"), r"tables.t.figures\[0\] = 'comparison': is of accuracies, not of flatness"),
    "a map without a grid": (("title: Plain", "title: Plain\n    figures: [heatmap]"), r"tables.plain.figures\[0\] = 'heatmap': needs a grid"),
    "noise that is not measured": (("title: Plain", "title: Plain\n    figures: [noise_course]"), r"= 'noise_course': needs runs with `noise`, unlike r0.2-w8"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_each_mistake_in_a_grid_is_named(load_own_paper, change, message):
    with pytest.raises(UserError, match=message) as caught:
        load_own_paper(PAPER, change)
    lines = str(caught.value).splitlines()
    assert all(line.startswith("papers/mine.yaml: ") for line in lines)


def test_a_long_list_of_what_is_allowed_is_cut():
    with pytest.raises(UserError, match=r"no run 'nope'; allowed: mnist.*, … \(344 in all\)$"):
        papers.scaled_spec(config_at("paper"), "simsekli2019", "nope", 0)


def test_what_a_cpu_carries_is_as_published():
    config = load_config([ROOT / "config/paper.yaml", ROOT / "config/cpu.yaml"])
    specs = expand(config)
    grid = [spec for spec in specs.values() if spec.paper == "simsekli2019"]
    assert (len(grid), len(specs) - len(grid)) == (3 * 2 * (2 * 9 * 5 + 1), 3 * 3 * 7)
    assert {spec.dataset for spec in specs.values()} == {"mnist", "fashion_mnist", "cifar10"}
    everything = {"papers": ["simsekli2019", "seminar"]}
    whole = expand(load_config([ROOT / "config/paper.yaml"], everything))
    assert all(whole[key] == spec for key, spec in specs.items())
