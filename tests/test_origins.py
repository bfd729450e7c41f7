"""Where each setting of a run comes from, and what a note says of a scale's rules."""

import pytest
import yaml
from conftest import ROOT, config_of

from whysgd.__main__ import main
from whysgd.study import origins
from whysgd.study.config import load_config
from whysgd.study.origins import scale_note, settings_text
from whysgd.study.papers import expand, scaled_spec
from whysgd.study.spec import RunSpec
from whysgd.study.workflow import Study

NOVACK_LR = (
    "lr 0.0125 = 0.1 (papers/novack2023.yaml: defaults) × 4 (rules_of.novack2023.lr_factor) "
    "÷ 32 (rules_of.novack2023.micro_batch_divisor)"
)
MINI = {
    "geiping2022/sgd": [
        "lr 0.05 = 0.1 (papers/geiping2022.yaml: defaults) × 4 (lr_factor) ÷ 8 (micro_batch_divisor)",
        "micro_batch 16 = 128 (papers/geiping2022.yaml: defaults) ÷ 8 (micro_batch_divisor)",
        "epochs 30 = 300 (papers/geiping2022.yaml: runs.sgd) ÷ 10 (time_divisor)",
        "schedule.warmup 0.0 (time_divisor: 5 (papers/geiping2022.yaml: runs.sgd) would be shorter than a unit)",
        "model resnet_mini (models) in place of resnet18 (papers/geiping2022.yaml: defaults)",
        "augment.crop_padding 1 (augmentation) in place of 4 (papers/geiping2022.yaml: defaults)",
        "momentum 0.9 (papers/geiping2022.yaml: defaults)",
        "normalize null (datasets) in place of 0.49147, 0.48226, 0.44677, 0.24703, 0.24349, 0.26159 "
        "(papers/geiping2022.yaml: defaults)",
        "clip null (default)",
        "evaluations 15 (config: evaluations)",
    ],
    "geiping2022/fb-practice": [
        "shuffle true (papers/geiping2022.yaml: runs.fb-practice)",
        "micro_batch 4 = 32 (papers/geiping2022.yaml: runs.fb-strong-reg) ÷ 8 (micro_batch_divisor)",
        "lr 3.2 = 0.8 (papers/geiping2022.yaml: runs.fb-reg) × 4 (lr_factor)",
        "penalty.eps 0.01 (default)",
    ],
    "geiping2022/noaug-sgd": ["augment null (papers/geiping2022.yaml: runs.noaug-sgd)"],
    "geiping2022/x10-fb": ["store.copies 2 = 10 (papers/geiping2022.yaml: runs.x10-fb) ÷ 5 (copies_divisor)"],
    "novack2023/resnet18-cifar10.lb-gn": [
        "penalty.strength 0.00125 = 0.01 (papers/novack2023.yaml: tables) ÷ 8 (rules_of.novack2023.strength_divisor)",
        NOVACK_LR,
        "batch 160 = 5120 (papers/novack2023.yaml: defaults) ÷ 32 (rules_of.novack2023.micro_batch_divisor)",
    ],
    "novack2023/resnet18-cifar10.sb-sgd": [
        "batch 4 = micro_batch (papers/novack2023.yaml: tables)",
        NOVACK_LR,
    ],
    "novack2023/resnet18-cifar10.iter-graft": [NOVACK_LR],
    "iyer2023/explore-0": ["schedule.milestones 0.0, 0.5 (papers/iyer2023.yaml: runs.explore-0)"],
    "simsekli2019/mnist-cross_entropy-d4-w16": [
        "micro_batch 16 = 100 (papers/simsekli2019.yaml: tables) ÷ 6.25 (rules_of.simsekli2019.micro_batch_divisor)",
        "schedule.milestones 0.3333333, 0.6666667 (papers/simsekli2019.yaml: tables)",
    ],
}  # fmt: skip


@pytest.mark.parametrize(("run", "expected"), MINI.items(), ids=MINI)
def test_each_setting_says_its_value_and_where_it_comes_from(run, expected, capsys, tmp_path):
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({"papers": [run.partition("/")[0]]}))
    assert main(["settings", run, "--scale", "mini", "--configfile", str(tmp_path / "own.yaml")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in expected if line not in lines] == []
    told = {line.split()[0].partition(".")[0] for line in lines}
    assert told == {*RunSpec.model_fields} - {"paper", "run", "scale", "seed"}


def test_at_the_scale_of_the_paper_no_rule_changes_anything(capsys):
    assert main(["settings", "geiping2022/fb-reg", "--scale", "paper"]) == 0
    printed = capsys.readouterr().out
    assert "lr 0.8 (papers/geiping2022.yaml: runs.fb-reg)\n" in printed
    assert not any(word in printed for word in (" = ", " ≈ ", "in place of"))


def test_a_rounded_number_is_not_called_equal():
    rounded = load_config(settings={"scales": {"mini": {"seeds": [0], "time_divisor": 7}}})
    assert "epochs 43 ≈ 300 (" in origins.settings_text(rounded, "geiping2022", "sgd")


def test_the_note_of_a_table_names_the_rules_that_change_its_runs():
    tables = {"geiping2022": ["main", "fixed_dataset"], "novack2023": None, "seminar": ["mnist"]}
    study = Study(config_of(**tables))
    notes = {
        "geiping2022/main": "lr ×4 (÷8 unless full batch), micro-batch ÷8, times ÷10",
        "geiping2022/fixed_dataset": "lr ×4 (÷8 unless full batch), micro-batch ÷8, times ÷10, copies ÷5",
        "novack2023/main": "lr ×4 ÷32, micro-batch ÷32, times ÷20, λ ÷8",
        "novack2023/grafting": "lr ×4 ÷32, micro-batch ÷32, times ÷20",
        "seminar/mnist": "lr ÷8 unless full batch, micro-batch ÷8",
    }
    assert {name: study.table(*name.split("/"))["scaled"] for name in notes} == notes
    config = config_of(**tables)
    config["scales"]["mini"]["rules_of"]["novack2023"] |= {
        "batch_divisor": 4,
        "strength_divisor": 1,
        "time_divisor": 0.4,
    }
    fewer = Study(config).table("novack2023", "main")["scaled"]
    assert fewer == "lr ×4 ÷32, micro-batch ÷32, times ×2.5, micro-batches of a step ÷4"
    text = settings_text(config, "novack2023", "resnet18-cifar10-gn-mb2560")
    ways = "÷ 32 (rules_of.novack2023.micro_batch_divisor) ÷ 4 (rules_of.novack2023.batch_divisor)"
    assert f"\nbatch 40 = 5120 (papers/novack2023.yaml: defaults) {ways}\n" in text
    assert f"\nmicro_batch 20 = 2560 (papers/novack2023.yaml: runs.resnet18-cifar10-gn-mb2560) {ways}\n" in text
    paper = Study(load_config(settings={"scale": "paper"})).table("geiping2022", "main")
    assert (paper["scaled"], paper["as_published"]) == ("", True)
    assert not any(study.table(*name.split("/"))["as_published"] for name in notes)
    config = load_config(settings={"scale": "paper"})
    config["scales"]["paper"]["models"] = {"*": "resnet18_half"}
    narrow = Study(config).table("geiping2022", "main")
    assert (narrow["scaled"], narrow["as_published"]) == ("", False)


def test_a_new_paper_that_no_rule_mentions_runs_with_those_of_the_scale(load_own_paper, tmp_path, monkeypatch):
    row = {"run": "a", "label": "A"}
    paper = {
        "paper": "mine", "title": "T", "tables": {"main": {"title": "T", "rows": [row]}},
        "defaults": {"dataset": "cifar10", "model": "resnet18", "batch": "all", "micro_batch": 128, "lr": 0.1,
                     "schedule": {"unit": "epoch", "warmup": 10, "decay": "cosine", "horizon": 100}},
        "runs": {"a": {"epochs": 100}},
    }  # fmt: skip
    load_own_paper(yaml.safe_dump(paper))
    monkeypatch.setattr(origins, "PAPERS", tmp_path)
    config = load_config() | {"papers": ["mine"]}
    assert "mine" not in (ROOT / "config.yaml").read_text()
    (spec, *_), seeds = zip(*((spec, seed) for (_, _, seed), spec in expand(config).items()), strict=True)
    assert list(seeds) == config["scales"]["mini"]["seeds"]
    assert (spec.dataset, spec.model, spec.lr, spec.micro_batch, spec.epochs) == ("digits", "resnet_mini", 0.4, 16, 10)
    assert spec == scaled_spec(config, "mine", "a", 0)
    assert scale_note(config, "mine", ["a"]) == "lr ×4, micro-batch ÷8, times ÷10"
    assert "lr 0.4 = 0.1 (papers/mine.yaml: defaults) × 4 (lr_factor)" in origins.settings_text(config, "mine", "a")
