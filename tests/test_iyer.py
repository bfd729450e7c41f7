"""iyer2023 as published, its seeds and schedules at every scale"""

import json

import pytest
from conftest import make_dataset, one_line, specs_at

from whysgd.study.config import load_config
from whysgd.study.length import steps_per_epoch
from whysgd.study.papers import expand, load_paper, scaled_spec, tables_at
from whysgd.study.registry import make
from whysgd.study.spec import Augmentation, Normalization, RunSpec
from whysgd.training.loop import Trainer
from whysgd.training.schedules import learning_rate

# A second transcription of the published tables: epochs and test accuracy.
FULL = {"knee": 95.26, "explore-100": 95.10, "one-cycle": 94.09, "cosine": 95.23, "linear": 95.18}
SHORT = {"knee-150": 95.14, "one-cycle-150": 93.84, "cosine-150": 95.06, "linear-150": 95.02}
# Epochs at 0.1, at 0.01 and at 0.001.
EXPLORE = {f"explore-{first}": (first, rest, rest) for first, rest in ((0, 100), (30, 85), (60, 70), (100, 50))}
RUNS = {*FULL, *SHORT, *EXPLORE}
DECAYS = ("knee", "one-cycle", "cosine", "linear")


def means_of(table):
    return {row["run"]: row["mean"] for row in load_paper("iyer2023")["tables"][table]["rows"]}


# Rows of both published tables beside that of CIFAR-10.
OTHERS = ["ImageNet", "IWSLT'14", "WMT'14", "BERT-Large"]


def test_the_published_accuracies_are_as_published():
    paper = load_paper("iyer2023")
    assert list(paper["tables"]) == ["full_budget", "short_budget", "explore"]
    assert means_of("full_budget") == FULL
    assert means_of("short_budget") == SHORT
    assert means_of("explore") == dict.fromkeys(EXPLORE)
    labels = {row["run"]: row["label"] for row in paper["tables"]["full_budget"]["rows"]}
    # Two columns of the published table with one number, and one run.
    assert labels["knee"] == "Knee"
    assert paper["tables"]["explore"]["figures"] == ["curves", "strips"]
    assert [(part["table"], part["rows"]) for part in paper["out_of_scope"]] == [
        ("full_budget", OTHERS),
        ("short_budget", OTHERS),
        ("short_budget", ["V100 hours saved"]),
        ("Epochs to reach a target", ["IWSLT'14", "WMT'14"]),
        ("IWSLT'14 with Cutoff", ["inverse square root", "Knee", "inverse square root, short budget", "Knee, short budget"]),
    ]  # fmt: skip


def test_the_settings_are_as_published():
    specs = specs_at("iyer2023", "paper", seeds=[0])
    assert {run for run, _ in specs} == RUNS
    for (run, _), spec in specs.items():
        assert (spec.dataset, spec.model) == ("cifar10", "resnet18_conv")
        assert (spec.micro_batch, spec.batch, spec.shuffle, spec.drop_last) == (128, 128, True, False)
        assert (spec.lr, spec.momentum, spec.nesterov, spec.weight_decay) == (0.1, 0.9, False, 5e-4)
        assert spec.augment == Augmentation(crop_padding=4, flip=True)
        assert (spec.store, spec.penalty, spec.clip) == (None, None, None)
        assert spec.normalize == Normalization(mean=(0.49147, 0.48226, 0.44677), std=(0.24703, 0.24349, 0.26159))
        assert spec.epochs == (150 if run.endswith("-150") else 200)
        assert steps_per_epoch(spec, 50_000) == 391
        assert (spec.schedule.unit, spec.schedule.warmup) == ("run", 0)
        assert spec.schedule.decay == (decay if (decay := run.removesuffix("-150")) in DECAYS else "step")
    assert specs["knee", 0].schedule.explore == specs["knee-150", 0].schedule.explore == 0.5


@pytest.mark.parametrize("run", EXPLORE)
def test_the_epochs_of_each_rate_are_as_published(run):
    spec = specs_at("iyer2023", "paper", seeds=[0])[run, 0]
    rates = [learning_rate(spec.schedule, spec.lr, step, 200 * 391) for step in range(200 * 391)]
    expected = [0.1] * EXPLORE[run][0] + [0.01] * EXPLORE[run][1] + [0.001] * EXPLORE[run][2]
    assert rates == pytest.approx([rate for rate in expected for _ in range(391)])


def test_published_numbers_are_those_of_the_shared_reference(shared_reference):
    theirs = shared_reference["iyer2023"]
    full, short = theirs["tables"]["full_budget"], theirs["tables"]["short_budget"]
    published = dict(zip(full["columns"], full["rows"][0]["mean"], strict=True))
    assert published.pop("knee") == published["knee-fixed50"]
    names = {"knee": "knee-fixed50", "explore-100": "baseline"}
    assert published == {names.get(run, run): mean for run, mean in FULL.items()}
    shorter = dict(zip(short["columns"], short["rows"][0]["mean"], strict=True))
    assert shorter == {run.removesuffix("-150"): mean for run, mean in SHORT.items()}
    assert (full["rows"][0]["epochs"], short["rows"][0]["epochs"]) == (200, 150)
    histograms = theirs["figures"]["explore_histograms"]
    assert histograms["explore_epochs"] == [epochs for epochs, _, _ in EXPLORE.values()]
    assert histograms["seeds_in_paper"] == load_config()["scales"]["paper"]["table_seeds"]["iyer2023"]["explore"]
    assert theirs["out_of_scope_rows"] == {"full_budget": OTHERS}


def test_a_schedule_in_shares_of_the_run_is_the_same_at_every_scale():
    paper, mini = specs_at("iyer2023", "paper", seeds=[0]), specs_at("iyer2023", "mini", seeds=[0])
    for key, spec in mini.items():
        assert spec.schedule == paper[key].schedule
        assert (spec.epochs, spec.micro_batch, spec.lr) == (paper[key].epochs / 10, 16, 0.4 / 8)
        assert (spec.dataset, spec.model) == ("digits", "resnet_mini")
    # Times in other units are divided, milestones as well.
    novack = load_config(settings={"scales": {"s": {"seeds": [0], "time_divisor": 4}}, "scale": "s"})
    runs = load_paper("novack2023")["runs"]
    schedule = {"unit": "step", "warmup": 8, "decay": "step", "milestones": [40, 60]}
    settings = {**runs["resnet18-cifar10"], "schedule": schedule}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(runs, "resnet18-cifar10", settings)
        divided = make("schedule", "step", unit="step", warmup=2, milestones=(10, 15))
        assert scaled_spec(novack, "novack2023", "resnet18-cifar10", 0).schedule == divided
        schedule["milestones"] = [60, 5001]
        with one_line(r"milestones = 1250.25 at scale s: must be at most 1250, the run's steps"):
            scaled_spec(novack, "novack2023", "resnet18-cifar10", 0)


@pytest.mark.parametrize(("scale", "seeds", "count"), [("mini", 5, 5), ("midi", 1, 3), ("paper", 3, 50)])
def test_a_table_can_have_seeds_of_its_own(scale, seeds, count):
    seeds_of = {}
    for run, seed in specs_at("iyer2023", scale):
        seeds_of.setdefault(run, []).append(seed)
    # The mini scale runs the explorations alone.
    assert set(seeds_of) == ({*EXPLORE} if scale == "mini" else RUNS)
    for run, found in seeds_of.items():
        assert found == list(range(count if run in EXPLORE else seeds))
    # The configuration's own seeds rule everything.
    assert {seed for _, seed in specs_at("iyer2023", scale, seeds=[7, 3])} == {3, 7}


SCALE = {"seeds": [0, 9], "datasets": {"*": "digits"}, "micro_batch_divisor": 32, "time_divisor": 100}


def at(paper, table_seeds, **rules):
    scales = {"s": {**SCALE, "table_seeds": table_seeds, **rules}}
    return load_config(settings={"papers": [paper], "scale": "s", "scales": scales})


def test_a_run_of_several_tables_has_the_seeds_of_each():
    specs = expand(at("iyer2023", {"iyer2023": {"explore": 3}}))
    seeds = {run: [seed for _, name, seed in specs if name == run] for run in RUNS}
    assert seeds["explore-100"] == [0, 1, 2, 9]
    assert (seeds["explore-30"], seeds["knee"]) == ([0, 1, 2], [0, 9])
    # A table that is not run adds none.
    specs = expand(at("iyer2023", {"iyer2023": {"explore": 3}}, tables={"iyer2023": ["full_budget"]}))
    assert {seed for _, _, seed in specs} == {0, 9}


def test_a_run_that_is_grafted_from_has_the_seeds_of_those_that_graft(monkeypatch):
    paper = load_paper("novack2023")
    graft = {"name": "exter_graft", "reference": "resnet18-cifar10.sb-sgd"}
    name = "vgg11-cifar10-gn-mb1000"
    monkeypatch.setitem(paper["runs"], name, {**paper["runs"][name], "transform": graft})
    specs = expand(at("novack2023", {"novack2023": {"large_micro_batch": 4}}, models={"*": "fc_d2_w4"}))
    assert [seed for _, run, seed in specs if run == graft["reference"]] == [0, 1, 2, 3, 9]


@pytest.mark.parametrize("run", [*DECAYS, "explore-30"])
def test_the_loop_takes_the_rate_of_each_step(run):
    spec = scaled_spec(load_config(), "iyer2023", run, 0)
    spec = RunSpec.from_dict({**json.loads(json.dumps(spec.to_dict())), "epochs": 2, "micro_batch": 5, "batch": 5})
    trainer = Trainer([spec], make_dataset())
    assert trainer.total == 10
    rates = [trainer.step()["lr"] for _ in range(10)]
    assert rates == [learning_rate(spec.schedule, spec.lr, step, 10) for step in range(10)]
    assert len(set(rates)) > 2  # there are two epochs


def test_planes_are_those_of_planned_runs():
    assert tables_at(load_config(), "geiping2022")["main"]["planes"] == ["sgd", "fb", "fb-strong-reg"]
    skipped = load_config(settings={"scale": "s", "scales": {"s": {**SCALE, "skip": {"geiping2022": ["fb"]}}}})
    assert tables_at(skipped, "geiping2022")["main"]["planes"] == ["sgd", "fb-strong-reg"]
