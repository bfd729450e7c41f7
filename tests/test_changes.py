"""What a scale changes in the settings of runs, and what a note says of its rules."""

import re

import pytest
import yaml
from conftest import ROOT, config_of

from whysgd.__main__ import main
from whysgd.study.changes import scale_note, settings_at_paper
from whysgd.study.config import load_config
from whysgd.study.papers import expand, scaled_spec
from whysgd.study.spec import RunSpec
from whysgd.study.workflow import Study

# Settings of runs at the scale mini, and at the scale paper where they differ; – is none.
MINI = {
    "geiping2022/sgd": {
        "lr": ("0.05", "0.1"), "micro_batch": ("16", "128"), "epochs": ("30", "300"), "schedule.warmup": ("0", "5"),
        "model": ("resnet_mini", "resnet18"), "augment.crop_padding": ("1", "4"), "momentum": ("0.9", ""),
        "normalize.std": ("–", "0.24703, 0.24349, 0.26159"), "clip": ("–", ""), "evaluations": ("15", ""),
    },
    "geiping2022/fb-practice": {
        "shuffle": ("true", ""), "micro_batch": ("4", "32"), "lr": ("3.2", "0.8"), "penalty.eps": ("0.01", ""),
    },
    "geiping2022/noaug-sgd": {"augment": ("–", "")}, "geiping2022/x10-fb": {"store.copies": ("2", "10")},
    "novack2023/resnet18-cifar10.lb-gn": {
        "penalty.strength": ("0.00125", "0.01"), "lr": ("0.0125", "0.1"), "batch": ("160", "5120"),
    },
    "novack2023/resnet18-cifar10.sb-sgd": {"batch": ("4", "128")},
    "iyer2023/explore-0": {"schedule.milestones": ("0.0, 0.5", "")},
    "simsekli2019/mnist-cross_entropy-d4-w16": {"micro_batch": ("16", "100")},
}  # fmt: skip


def printed(capsys, *arguments: str) -> tuple[dict[str, tuple[str, str]], str]:
    """What `whysgd settings` prints: each setting with its value and that at the scale paper, and the rules below."""
    assert main(["settings", *arguments]) == 0
    table, _, rules = capsys.readouterr().out.partition("\n\n")
    lines = [re.split(" {2,}", f"{line.rstrip()}  ") for line in table.splitlines()[2:]]
    return {key: (value, at_paper) for key, value, at_paper, *_ in ([*line, ""] for line in lines)}, rules


@pytest.mark.parametrize(("run", "expected"), MINI.items(), ids=MINI)
def test_settings_are_printed_beside_those_at_the_scale_paper(run, expected, capsys, tmp_path):
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({"papers": [run.partition("/")[0]]}))
    settings, rules = printed(capsys, run, "--scale", "mini", "--configfile", str(tmp_path / "own.yaml"))
    assert {key: settings[key] for key in expected} == expected
    assert {key.partition(".")[0] for key in settings} == {*RunSpec.model_fields} - {"paper", "run", "scale", "seed"}
    rule = "lr ×6.25 ÷6.25, micro-batch ÷6.25, times ÷100" if "simsekli" in run else "lr ×4"
    assert rules.startswith(f"Rules of the scale: {rule}")


def test_at_the_scale_of_the_paper_nothing_differs(capsys):
    settings, rules = printed(capsys, "geiping2022/fb-reg", "--scale", "paper")
    assert settings["lr"] == ("0.8", "")
    assert {at_paper for _, at_paper in settings.values()} == {""}
    assert rules == ""


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
    divisors = {"batch_divisor": 4, "strength_divisor": 1, "time_divisor": 0.4}
    config["scales"]["mini"]["rules_of"]["novack2023"] |= divisors
    fewer = Study(config).table("novack2023", "main")["scaled"]
    assert fewer == "lr ×4 ÷32, micro-batch ÷32, times ×2.5, micro-batches of a step ÷4"
    at_paper = settings_at_paper(config, "novack2023", "resnet18-cifar10-gn-mb2560")
    assert (at_paper["batch"], at_paper["micro_batch"]) == ("5120", "2560")
    paper = Study(load_config(settings={"scale": "paper"})).table("geiping2022", "main")
    assert (paper["scaled"], paper["as_published"]) == ("", True)
    assert not any(study.table(*name.split("/"))["as_published"] for name in notes)
    config = load_config(settings={"scale": "paper"})
    config["scales"]["paper"]["models"] = {"*": "resnet18_half"}
    narrow = Study(config).table("geiping2022", "main")
    assert (narrow["scaled"], narrow["as_published"]) == ("", False)


def test_a_new_paper_that_no_rule_mentions_runs_with_those_of_the_scale(load_own_paper):
    row = {"run": "a", "label": "A"}
    paper = {
        "paper": "mine", "title": "T", "tables": {"main": {"title": "T", "rows": [row]}},
        "defaults": {"dataset": "cifar10", "model": "resnet18", "batch": "all", "micro_batch": 128, "lr": 0.1,
                     "schedule": {"unit": "epoch", "warmup": 10, "decay": "cosine", "horizon": 100}},
        "runs": {"a": {"epochs": 100}},
    }  # fmt: skip
    load_own_paper(yaml.safe_dump(paper))
    config = load_config() | {"papers": ["mine"]}
    assert "mine" not in (ROOT / "config.yaml").read_text()
    (spec, *_), seeds = zip(*((spec, seed) for (_, _, seed), spec in expand(config).items()), strict=True)
    assert list(seeds) == config["scales"]["mini"]["seeds"]
    assert (spec.dataset, spec.model, spec.lr, spec.micro_batch, spec.epochs) == ("digits", "resnet_mini", 0.4, 16, 10)
    assert spec == scaled_spec(config, "mine", "a", 0)
    assert scale_note(config, "mine", ["a"]) == "lr ×4, micro-batch ÷8, times ÷10"
    assert settings_at_paper(config, "mine", "a")["lr"] == "0.1"
