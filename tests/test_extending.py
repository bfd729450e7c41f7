"""docs/extending.md, done as it says: methods in a folder outside of the repository, named by dotted paths."""

import json
import os
import re
import sys

import pytest
import yaml
from conftest import ROOT, make_dataset, make_spec, one_line, python

from whysgd.files import read_json
from whysgd.models.build import build_model
from whysgd.study.config import load_config
from whysgd.study.figures import needs
from whysgd.study.papers import scaled_spec
from whysgd.study.registry import settings_of
from whysgd.study.spec import RunSpec
from whysgd.training.loop import Trainer
from whysgd.training.optimizers import optimizer_of

PAGE = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^`(my_methods/\w+\.py)`:\n\n```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
SNIPPETS = [yaml.safe_load(text) for text in re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)]
SETTINGS = {key: value for snippet in SNIPPETS for key, value in snippet.items()}
IN_A_RUN = ("penalty", "transform", "optimizer", "schedule", "model")
OF_SGD = ("momentum", "nesterov", "weight_decay")


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """A folder with the modules of the page."""
    folder = tmp_path_factory.mktemp("elsewhere")
    for name, code in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(code)
    return folder


@pytest.fixture
def within_reach(elsewhere, monkeypatch):
    monkeypatch.syspath_prepend(elsewhere)
    yield
    for name in [name for name in sys.modules if name.startswith("my_methods")]:
        del sys.modules[name]


def spec_with(**settings) -> RunSpec:
    plain = {"momentum": 0.0, "nesterov": False, "weight_decay": 0.0, "penalty": None, "clip": None, "lr": 0.01}
    return RunSpec.from_dict({**make_spec(epochs=2).to_dict(), **plain, **settings})


def run(folder, *command):
    return python(*command, cwd=folder, PYTHONPATH=f"{folder}{os.pathsep}{ROOT}").stdout


def test_the_page_has_one_of_each_in_under_twenty_lines():
    assert len(FILES) == 7
    assert {*IN_A_RUN, *OF_SGD, "clip", "measures", "figures"} == set(SETTINGS)
    for name, code in FILES.items():
        assert len([line for line in code.splitlines() if line.strip()]) < 20, name


@pytest.fixture(scope="module")
def trained(elsewhere, data):
    """A run with everything of the page that a run can have, trained by the command line."""
    out = elsewhere / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(elsewhere)
        spec = spec_with(**{key: SETTINGS[key] for key in IN_A_RUN})
    train = ["-m", "whysgd", "train", "--spec", json.dumps(spec.to_dict()), "--seed", 0, 1]
    run(elsewhere, *train, "--data", data, "--out", out)
    return out


def test_a_run_trains_with_everything_from_elsewhere(trained):
    metrics = read_json(trained / "metrics.json")
    assert {seed: one["status"] for seed, one in metrics["seeds"].items()} == {"0": "finished", "1": "finished"}
    penalty = {"name": "my_methods.penalties:confidence", "strength": 0.01, "sample": None, "power": 2}
    assert metrics["settings"]["penalty"] == penalty
    assert metrics["parameters"] == (64 + 1) * 16 + (16 + 1) * 3


def test_a_measure_from_elsewhere_is_taken_and_shown(trained, elsewhere, data):
    name = SETTINGS["measures"][-1]
    file = elsewhere / "measures.json"
    run(elsewhere, "-m", "whysgd", "measure", name, "--run", trained, "--data", data, "--out", file)
    code = f"from whysgd.report.measures import read_measures; print(read_measures(['{elsewhere}/measures.json']).quantity.tolist())"
    assert run(elsewhere, "-c", code).strip() == "['weight_norm', 'weight_norm']"


def test_a_figure_from_elsewhere_is_drawn(trained, elsewhere):
    name = SETTINGS["figures"][-1]
    code = (
        "import pandas as pd; from whysgd.study.registry import find; from whysgd.study.figures import needs, caption;"
        f"assert needs('{name}') == ('histories',) and caption('{name}').endswith('.');"
        f"history = pd.read_csv('{trained}/history.csv').assign(run='mine');"
        f"print(len(find('figure', '{name}')({{}}, {{'histories': history}}).axes[0].lines))"
    )
    assert run(elsewhere, "-c", code).strip() == "2"


def test_configuration_and_papers_take_them(within_reach, load_own_paper):
    assert load_config(settings={"measures": SETTINGS["measures"]})["measures"] == SETTINGS["measures"]
    paper = {
        "paper": "mine", "title": "T", "runs": {"r": {key: SETTINGS[key] for key in IN_A_RUN}},
        "tables": {"t": {"title": "T", "rows": [{"run": "r", "label": "R"}], "figures": SETTINGS["figures"]}},
    }  # fmt: skip
    assert load_own_paper(yaml.safe_dump(paper))["tables"]["t"]["figures"] == SETTINGS["figures"]


@pytest.mark.parametrize("snippet", [one for one in SNIPPETS if {*IN_A_RUN} & set(one)], ids=lambda one: list(one)[-1])
def test_each_snippet_makes_a_run_of_a_published_one(within_reach, snippet):
    published = scaled_spec(load_config(), "geiping2022", "fb-clip", 0).to_dict()
    assert RunSpec.from_dict({**published, **snippet}) != RunSpec.from_dict(published)


WRONG = {
    "setting": ({"penalty": {**SETTINGS["penalty"], "powr": 2}}, "penalty.powr: unknown key; allowed here: .*did you mean power"),
    "value": ({"schedule": {**SETTINGS["schedule"], "scale": "x"}}, "schedule.scale = 'x': "),
    "function": ({"optimizer": {"name": "my_methods.optimizers:ball"}}, "optimizer.name = 'my_methods.optimizers:ball': cannot be"),
    "module": ({"transform": {"name": "my_method.transforms:sign"}}, "transform.name = 'my_method.transforms:sign': cannot be"),
}  # fmt: skip


@pytest.mark.parametrize(("settings", "message"), WRONG.values(), ids=WRONG.keys())
def test_a_mistake_is_one_line_before_anything_runs(within_reach, settings, message):
    with one_line(message, ValueError):
        spec_with(**settings)


ODD = {
    "no needs": ("figure", "CAPTION = 'C.'\ndef odd(table, frames): pass", "odd.py: must have the constant NEEDS"),
    "no quantities": ("measure", "def odd(model, images): pass", "odd.py: must have the constant QUANTITIES"),
    "no annotation": ("measure", "def odd(model, images, steps=3): pass", "odd: steps: must be annotated as bool"),
    "another one": (
        "measure",
        "def odd(model, images, steps: list = 3): pass",
        "odd: steps: must be annotated as bool",
    ),
    "a sum": ("measure", "def odd(model, images, n: int = 2 * 3): pass", "odd: n: its default must be plain data"),
    "a name": ("measure", "def odd(model, images, n: int = MOST): pass", "odd: n: its default must be plain data"),
}


@pytest.mark.parametrize(("kind", "text", "message"), ODD.values(), ids=ODD.keys())
def test_what_a_file_of_ones_own_lacks_is_told(tmp_path, monkeypatch, kind, text, message):
    (tmp_path / "odd.py").write_text("" if "must have" in message else "QUANTITIES = {}\n")
    with (tmp_path / "odd.py").open("a") as file:
        file.write(text)
    monkeypatch.syspath_prepend(tmp_path)
    with one_line(message):
        needs("odd:odd") if kind == "figure" else settings_of(kind, "odd:odd")


def test_what_is_no_function_in_python_is_told():
    with one_line("penalty = 'builtins:dict': must be a function written in Python"):
        settings_of("penalty", "builtins:dict")


def test_an_argument_that_a_class_of_torch_does_not_have_is_told():
    spec = spec_with(optimizer={"name": "torch.optim:AdamW", "weight_deca": 0.1})
    message = r"optimizer torch\.optim:AdamW: weight_deca: unknown key; .*did you mean weight_decay"
    with one_line(message):
        Trainer([spec], make_dataset()).step()


def test_classes_of_torch_need_no_code():
    schedule = {"unit": "step", "warmup": 0, "decay": "constant"}
    ours = spec_with(schedule=schedule, momentum=0.9, nesterov=True, weight_decay=5e-4)
    options = {"momentum": 0.9, "nesterov": True, "weight_decay": 5e-4}
    theirs = spec_with(
        schedule={"unit": "step", "decay": "torch.optim.lr_scheduler:ConstantLR", "factor": 1.0},
        optimizer={"name": "torch.optim:SGD", **options},
    )
    weights = []
    for spec in (ours, theirs):
        trainer = Trainer([spec, spec.replace(seed=1)], make_dataset())
        for _ in range(trainer.total):
            trainer.step()
        weights.append(trainer.batch.theta)
    assert (weights[0] - weights[1]).abs().max() < 1e-6


def test_what_a_run_cannot_repeat_or_does_not_support_is_told():
    with one_line(r"torch.nn:Dropout2d'.*: allowed is torch.nn.Dropout"):
        build_model("torch.nn:Dropout2d", 3, 10, 0, 32)
    with one_line("calls the loss several times in a step"):
        optimizer_of(spec_with(optimizer={"name": "torch.optim:LBFGS"}))
    with pytest.raises(ValueError, match=r"precision = 'bf16': torchvision\.models:resnet18 has torch's own layers"):
        spec_with(model="torchvision.models:resnet18", precision="bf16", penalty=None)
