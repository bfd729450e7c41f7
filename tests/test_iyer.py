"""iyer2023 as published, its seeds and schedules at every scale, and the claims on sharpness."""

import json
from typing import get_args

import pandas as pd
import pytest
import yaml
from conftest import make_dataset
from scipy import stats

from whysgd.errors import UserError
from whysgd.report.claims import MEANINGS, claims_to_markdown, evaluate_check, evaluate_claims, rank_correlation
from whysgd.study.checks import METRICS, RankComparison, needed_measures, parse_check
from whysgd.study.config import load_config
from whysgd.study.paper import ClaimMetric
from whysgd.study.papers import claims_at, expand, load_paper, scaled_spec, tables_at
from whysgd.study.registry import make
from whysgd.study.spec import Augmentation, Normalization, RunSpec, steps_per_epoch
from whysgd.study.validation import ROOT
from whysgd.training.schedules import learning_rate
from whysgd.training.trainer import Trainer

# A second transcription of the published tables: epochs and test accuracy.
FULL = {"knee": 95.26, "explore-100": 95.10, "one-cycle": 94.09, "cosine": 95.23, "linear": 95.18}
SHORT = {"knee-150": 95.14, "one-cycle-150": 93.84, "cosine-150": 95.06, "linear-150": 95.02}
# Epochs at 0.1, at 0.01 and at 0.001.
EXPLORE = {
    "explore-0": (0, 100, 100),
    "explore-30": (30, 85, 85),
    "explore-60": (60, 70, 70),
    "explore-100": (100, 50, 50),
}
RUNS = {*FULL, *SHORT, *EXPLORE}
DECAYS = {"knee": "knee", "one-cycle": "one-cycle", "cosine": "cosine", "linear": "linear"}


def specs_at(scale, **settings):
    config = load_config(settings={"scale": scale, "papers": ["iyer2023"], **settings})
    return {(run, seed): spec for (_, run, seed), spec in expand(config).items()}


def means_of(table):
    return {row["run"]: row["mean"] for row in load_paper("iyer2023")["tables"][table]["rows"]}


def test_the_published_accuracies_are_as_published():
    paper = load_paper("iyer2023")
    assert list(paper["tables"]) == ["full_budget", "short_budget", "explore"]
    assert means_of("full_budget") == FULL
    assert means_of("short_budget") == SHORT
    assert means_of("explore") == dict.fromkeys(EXPLORE)
    labels = {row["run"]: row["label"] for row in paper["tables"]["full_budget"]["rows"]}
    # Two columns of the published table with one number, and one run.
    assert labels["knee"] == "Knee, and Knee with 50 % explore"
    assert paper["tables"]["explore"]["figures"] == ["curves", "histograms"]
    assert [(part["table"], part["rows"]) for part in paper["out_of_scope"]] == [
        ("full_budget", ["ImageNet", "IWSLT'14", "WMT'14", "BERT-Large"])
    ]


def test_the_settings_are_as_published():
    specs = specs_at("paper", seeds=[0])
    assert {run for run, _ in specs} == RUNS
    for (run, _), spec in specs.items():
        assert (spec.dataset, spec.model) == ("cifar10", "resnet18_conv")
        assert (spec.block, spec.macro_batch, spec.shuffle, spec.drop_last) == (128, 128, True, False)
        assert (spec.lr, spec.momentum, spec.nesterov, spec.weight_decay) == (0.1, 0.9, False, 5e-4)
        assert (spec.augment, spec.store, spec.penalty, spec.clip) == (Augmentation(crop_padding=4, flip=True), None, None, None)
        assert spec.normalize == Normalization(mean=(0.49147, 0.48226, 0.44677), std=(0.24703, 0.24349, 0.26159))
        assert spec.epochs == (150 if run.endswith("-150") else 200)
        assert steps_per_epoch(spec, 50_000) == 391
        assert (spec.schedule.unit, spec.schedule.warmup) == ("run", 0)
        assert spec.schedule.decay == DECAYS.get(run.removesuffix("-150"), "step")
    assert specs["knee", 0].schedule.explore == specs["knee-150", 0].schedule.explore == 0.5


@pytest.mark.parametrize("run", EXPLORE)
def test_the_epochs_of_each_rate_are_as_published(run):
    spec = specs_at("paper", seeds=[0])[run, 0]
    rates = [learning_rate(spec.schedule, spec.lr, step, 200 * 391) for step in range(200 * 391)]
    expected = [0.1] * EXPLORE[run][0] + [0.01] * EXPLORE[run][1] + [0.001] * EXPLORE[run][2]
    assert rates == pytest.approx([rate for rate in expected for _ in range(391)])


def test_published_numbers_are_those_of_the_shared_reference():
    reference = ROOT.parent / "shared/reference/published_results.yaml"
    if not reference.is_file():
        pytest.skip("an extra: the reference is not beside this clone; the tests above pin the numbers")
    theirs = yaml.safe_load(reference.read_text())["iyer2023"]
    full, short = theirs["tables"]["full_budget"], theirs["tables"]["short_budget"]
    published = dict(zip(full["columns"], full["rows"][0]["mean"], strict=True))
    assert published.pop("knee") == published["knee-fixed50"]
    assert published == {
        {"knee": "knee-fixed50", "explore-100": "baseline"}.get(run, run): m for run, m in FULL.items()
    }
    assert dict(zip(short["columns"], short["rows"][0]["mean"], strict=True)) == {
        run.removesuffix("-150"): mean for run, mean in SHORT.items()
    }
    assert (full["rows"][0]["epochs"], short["rows"][0]["epochs"]) == (200, 150)
    histograms = theirs["figures"]["explore_histograms"]
    assert histograms["explore_epochs"] == [epochs for epochs, _, _ in EXPLORE.values()]
    assert histograms["seeds_in_paper"] == load_config()["scales"]["paper"]["table_seeds"]["iyer2023"]["explore"]
    assert {part["table"]: part["rows"] for part in load_paper("iyer2023")["out_of_scope"]} == theirs[
        "out_of_scope_rows"
    ]


def test_a_schedule_in_shares_of_the_run_is_the_same_at_every_scale():
    paper, mini = specs_at("paper", seeds=[0]), specs_at("mini", seeds=[0])
    for key, spec in mini.items():
        assert spec.schedule == paper[key].schedule
        assert (spec.epochs, spec.block, spec.lr) == (paper[key].epochs / 10, 16, 0.4)
        assert (spec.dataset, spec.model) == ("digits", "resnet_mini")
    # Times in other units are divided, milestones as well.
    novack = load_config(settings={"scales": {"s": {"seeds": [0], "time_divisor": 4}}, "scale": "s"})
    runs = load_paper("novack2023")["runs"]
    settings = {
        **runs["resnet18-cifar10"],
        "schedule": {"unit": "step", "warmup": 8, "decay": "step", "milestones": [40, 60]},
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(runs, "resnet18-cifar10", settings)
        assert scaled_spec(novack, "novack2023", "resnet18-cifar10", 0).schedule == make("schedule", "step", unit="step", warmup=2, milestones=(10, 15))
        settings["schedule"] = {**settings["schedule"], "milestones": [60, 50_001]}
        with pytest.raises(
            UserError, match=r"milestones = 12500.25 at scale s: must be at most 12500, the run's steps"
        ):
            scaled_spec(novack, "novack2023", "resnet18-cifar10", 0)


def seeds_of(specs, run):
    return [seed for name, seed in specs if name == run]


@pytest.mark.parametrize(("scale", "seeds", "count"), [("mini", 3, 5), ("midi", 1, 3), ("paper", 3, 50)])
def test_a_table_can_have_seeds_of_its_own(scale, seeds, count):
    specs = specs_at(scale)
    for run in RUNS:
        assert seeds_of(specs, run) == list(range(count if run in EXPLORE else seeds))
    assert len(specs) == 8 * seeds + 4 * count
    # The configuration's own seeds rule everything.
    assert {seed for _, seed in specs_at(scale, seeds=[7, 3])} == {3, 7}


SCALE = {"seeds": [0, 9], "datasets": {"*": "digits"}, "block_divisor": 32, "time_divisor": 100}


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
    monkeypatch.setitem(
        paper["runs"], "vgg11-cifar10-gn-mb1000", {**paper["runs"]["vgg11-cifar10-gn-mb1000"], "transform": graft}
    )
    specs = expand(at("novack2023", {"novack2023": {"large_micro_batch": 4}}, models={"*": "fc_d2_w4"}))
    assert [seed for _, run, seed in specs if run == graft["reference"]] == [0, 1, 2, 3, 9]


@pytest.mark.parametrize(
    ("table_seeds", "message"),
    [
        ({"iyer2024": {"explore": 3}}, "scales.s.table_seeds.iyer2024 = 'iyer2024': allowed: geiping2022, iyer2023"),
        ({"iyer2023": {"explor": 3}}, "scales.s.table_seeds.iyer2023: no table 'explor'; allowed: full_budget, short_budget, explore"),
        ({"iyer2023": {"explore": 0}}, "scales.s.table_seeds.iyer2023.explore = 0: must be at least 1"),
        ({"iyer2023": 3}, "scales.s.table_seeds.iyer2023 = 3: must be a mapping"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_seeds_of_tables_is_one_line(table_seeds, message):
    with pytest.raises(UserError, match=message) as caught:
        expand(at("iyer2023", table_seeds))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("run", ["knee", "one-cycle", "cosine", "linear", "explore-30"])
def test_the_loop_takes_the_rate_of_each_step(run):
    spec = specs_at("mini", seeds=[0])[run, 0]
    spec = RunSpec.from_dict({**json.loads(json.dumps(spec.to_dict())), "epochs": 2, "block": 5, "macro_batch": 5})
    trainer = Trainer(spec, make_dataset())
    assert trainer.total == 10
    rates = [trainer.step()["lr"] for _ in range(10)]
    assert rates == [learning_rate(spec.schedule, spec.lr, step, 10) for step in range(10)]
    assert len(set(rates)) > 2  # there are two epochs


LIST = "explore-0, explore-30, explore-60, explore-100"


def test_the_claims_are_the_papers():
    claims = {claim["id"]: claim for claim in claims_at(load_config(), "iyer2023")}
    assert {name: (claim["metric"], claim["check"]) for name, claim in claims.items()} == {
        "i1": ("test_accuracy", "knee >= explore-100 and knee >= one-cycle and knee >= cosine and knee >= linear"),
        "i2": ("test_accuracy", "knee-150 >= explore-100 - 0.2 points"),
        "i3": ("keskar_sharpness", f"spearman({LIST}) < 0"),
        "i4": ("test_accuracy", f"spearman({LIST}) > 0"),
    }
    assert all(not claim["left_out"] for claim in claims.values())
    g7 = {claim["id"]: claim for claim in claims_at(load_config(), "geiping2022")}["g7"]
    assert (g7["metric"], g7["check"]) == ("flatness", "fb-strong-reg > fb")
    # A correlation needs all runs of its list.
    skipped = load_config(settings={"scale": "s", "scales": {"s": {**SCALE, "skip": {"iyer2023": ["explore-60"]}}}})
    assert [claim["id"] for claim in claims_at(skipped, "iyer2023")] == ["i1", "i2"]


def test_claims_name_the_measures_they_need():
    assert needed_measures(claim["metric"] for claim in load_paper("iyer2023")["claims"]) == {"keskar"}
    assert needed_measures(claim["metric"] for claim in load_paper("geiping2022")["claims"]) == {"flatness"}
    assert needed_measures(claim["metric"] for claim in load_paper("novack2023")["claims"]) == set()
    # A quantity that the run's own log has too needs no measure.
    assert needed_measures(["test_accuracy", "hessian_trace"]) == {"hessian"}


def test_the_schema_allows_the_metrics_that_there_are_and_each_has_words():
    assert get_args(ClaimMetric) == METRICS
    assert set(MEANINGS) == set(METRICS)
    assert MEANINGS["keskar_sharpness"] == "Keskar sharpness [%] of the trained network"


def test_correlations_are_read():
    assert parse_check("spearman(a, b-1,c.d) < 0 and a > 1")[0] == RankComparison(("a", "b-1", "c.d"), -1)
    assert parse_check("spearman(a, b) > 0") == [RankComparison(("a", "b"), 1)]


@pytest.mark.parametrize(
    "check",
    ["spearman(a) < 0", "spearman(a, b)", "spearman(a, b) <= 0", "spearman(a, b) < 0.5", "spearman(a b) < 0",
     "spearman(a, b, a) < 0", "0 > spearman(a, b)", "spearman(a, b) < c"],
)  # fmt: skip
def test_correlations_that_are_none_are_refused(check):
    with pytest.raises(UserError, match="check = "):
        parse_check(check)


FALLING = {"a": [9.0, 8.0, 8.5], "b": [7.0, 6.0, 8.2], "c": [3.0, 4.0]}


@pytest.mark.parametrize(
    ("check", "values", "verdict"),
    [
        ("spearman(a, b, c) < 0", FALLING, "holds"),
        ("spearman(a, b, c) > 0", FALLING, "fails"),
        ("spearman(c, b, a) > 0", FALLING, "holds"),
        ("spearman(a, c, b) < 0", {"a": [1.0, 2.0], "b": [1.5, 2.5], "c": [1.1, 1.9]}, "undetermined"),
        ("spearman(a, b) < 0", {"a": [2.0], "b": [1.0]}, "undetermined"),
        ("spearman(a, b) < 0", {"a": [2.0, 2.0], "b": [2.0]}, "undetermined"),
        ("spearman(a, b) < 0", {**FALLING, "b": [float("nan"), 1.0]}, "undetermined"),
        ("spearman(a, b, z) < 0", FALLING, "undetermined"),
        ("spearman(a, b, c) < 0 and a > c", FALLING, "holds"),
    ],
)
def test_verdicts_on_correlations(check, values, verdict):
    assert evaluate_check(check, values)["verdict"] == verdict


def test_the_evidence_of_a_correlation_has_rho_p_and_n():
    numbers = [*FALLING["a"], *FALLING["b"], *FALLING["c"]]
    rho, usual = stats.spearmanr([0, 0, 0, 1, 1, 1, 2, 2], numbers)
    found, p = rank_correlation([0, 0, 0, 1, 1, 1, 2, 2], numbers)
    assert found == pytest.approx(rho, rel=1e-12)
    assert p == pytest.approx(usual, abs=0.02)
    evidence = evaluate_check("spearman(a, b, c) < 0", FALLING)["evidence"]
    assert evidence == f"spearman(a, b, c) = {rho:+.2f}, p = {p:.2g}, n = 8, claimed < 0"
    assert "all values are the same" in evaluate_check("spearman(a, b) < 0", {"a": [2.0, 2.0], "b": [2.0]})["evidence"]
    assert "n = 2, too few" in evaluate_check("spearman(a, b) < 0", {"a": [2.0], "b": [1.0]})["evidence"]


@pytest.mark.parametrize(
    ("values", "p"),
    [
        ([[1], [2], [3]], 1 / 3),
        ([[90], [91], [92], [93]], 2 / 24),
        ([[1, 2, 3], [4, 5, 6]], 2 / 20),
        ([[1, 1], [2, 2]], 2 / 6),
        ([[1], [2], [2], [3], [4]], 2 * 2 / 120),
        ([[2], [1], [3]], 1.0),
    ],
)
def test_a_perfect_order_of_few_values_is_no_certainty(values, p):
    """Exact: how many orders of the values correlate at least as strongly, in either sense, counted by hand."""
    pairs = [(place, value) for place, seeds in enumerate(values) for value in seeds]
    assert rank_correlation(*zip(*pairs, strict=True))[1] == pytest.approx(p, rel=1e-12)
    runs = {"abcde"[place]: list(map(float, seeds)) for place, seeds in enumerate(values)}
    verdict = evaluate_check(f"spearman({', '.join(runs)}) > 0", runs)["verdict"]
    assert verdict == ("holds" if p < 0.05 else "undetermined")


def measures(values, quantity="keskar_sharpness"):
    """As the measures' frame has them, with another paper and another quantity beside."""
    lines = [
        {"paper": paper, "run": run, "scale": "mini", "seed": seed, "measure": "keskar", "quantity": name,
         "value": value + shift, "std_error": 0.1, "samples": 2}
        for run, seeds in values.items() for seed, value in enumerate(seeds)
        for paper, name, shift in (("iyer2023", quantity, 0.0), ("other", quantity, 50.0), ("iyer2023", "loss_gap", 9.0))
    ]  # fmt: skip
    return pd.DataFrame(lines)


def verdicts_on(frame):
    accuracies = {"explore-0": [90.0, 90.1, 90.2], "explore-30": [91.0, 91.2, 91.1], "explore-60": [92.0, 92.1, 92.2],
                  "explore-100": [93.0, 93.2, 93.1]}  # fmt: skip
    lines = [("iyer2023", run, seed, a) for run, seeds in accuracies.items() for seed, a in enumerate(seeds)]
    runs = pd.DataFrame(lines, columns=["paper", "run", "seed", "test_accuracy"])
    claims = evaluate_claims(claims_at(load_config(), "iyer2023"), "iyer2023", runs, runs, frame)
    return claims.set_index("id"), claims


def test_claims_are_judged_on_measures():
    sharp = {f"explore-{epochs}": [3.0 - epochs / 100 + seed / 50 for seed in range(3)] for epochs in (0, 30, 60, 100)}
    verdicts, claims = verdicts_on(measures(sharp))
    assert verdicts.verdict.to_dict() == {"i1": "undetermined", "i2": "undetermined", "i3": "holds", "i4": "holds"}
    assert verdicts.evidence["i3"].startswith(f"spearman({LIST}) = -0.9")
    assert verdicts.evidence["i3"].endswith(", n = 12, claimed < 0")
    markdown = claims_to_markdown(claims, "here")
    assert (
        "points of test accuracy at the last step (i1, i2, i4); in Keskar sharpness [%] of the trained net" in markdown
    )
    assert "spearman(…) is the rank correlation of these numbers with a run's place" in markdown
    assert "spearman" not in claims_to_markdown(claims[:2], "here")


@pytest.mark.parametrize("frame", [None, pd.DataFrame(), measures({"explore-0": [1.0]}, "flatness")])
def test_what_is_not_measured_is_undetermined(frame):
    verdicts, _ = verdicts_on(frame)
    assert verdicts.verdict["i3"] == "undetermined"
    assert verdicts.evidence["i3"] == f"not measured: {LIST}"
    assert verdicts.verdict["i4"] == "holds"


def test_measures_are_compared_with_digits_that_show_them():
    frame = measures({"fb": [0.012, 0.013], "fb-strong-reg": [0.04, 0.042]}, "flatness").assign(paper="geiping2022")
    runs = pd.DataFrame([("geiping2022", "fb", 0, 1.0)], columns=["paper", "run", "seed", "test_accuracy"])
    claims = [claim for claim in claims_at(load_config(), "geiping2022") if claim["id"] == "g7"]
    verdict = evaluate_claims(claims, "geiping2022", runs, runs, frame[frame.value < 1]).iloc[0]
    assert verdict.verdict == "holds"
    assert verdict.evidence.startswith("fb-strong-reg - fb = +0.0285 [+0.02")


def test_planes_are_those_of_planned_runs():
    assert tables_at(load_config(), "geiping2022")["main"]["planes"] == ["sgd", "fb", "fb-strong-reg"]
    skipped = load_config(settings={"scale": "s", "scales": {"s": {**SCALE, "skip": {"geiping2022": ["fb"]}}}})
    assert tables_at(skipped, "geiping2022")["main"]["planes"] == ["sgd", "fb-strong-reg"]
