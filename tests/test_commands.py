"""The command line: its entry point, its examples, the flags that commands share, and what it says of typing errors."""

import shlex
import tomllib
from importlib import import_module

import pytest
import yaml
from conftest import error_of, python

import whysgd
from whysgd.__main__ import command_line, run
from whysgd.commands._shared import config_of
from whysgd.study.config import load_config
from whysgd.study.validation import ROOT

(COMMANDS,) = [action.choices for action in command_line()._actions if action.choices]
EXAMPLES = {
    name: [line.strip() for line in parser.epilog.splitlines() if line.startswith("  ")]
    for name, parser in COMMANDS.items()
}
WITH_CONFIG = [name for name, parser in COMMANDS.items() if "--configfile" in parser.format_help()]


def test_the_package_installs_the_command():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    module, _, function = project["scripts"]["whysgd"].partition(":")
    assert getattr(import_module(module), function) is run


def test_it_says_its_version():
    assert python("-m", "whysgd", "--version").stdout == f"whysgd {whysgd.__version__}\n"


def test_each_file_of_the_folder_adds_commands():
    files = [file.stem for file in (ROOT / "whysgd/commands").glob("[!_]*.py")]
    assert {parser.get_default("command").__module__.rpartition(".")[2] for parser in COMMANDS.values()} == set(files)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_ends_with_examples_that_can_be_parsed(name):
    assert 1 <= len(EXAMPLES[name]) <= 3
    assert COMMANDS[name].format_help().rstrip().endswith(EXAMPLES[name][-1])
    for example in EXAMPLES[name]:
        program, *words = shlex.split(example)
        assert program == "whysgd"
        options = command_line().parse(words)
        assert words[0] == name
        if name in WITH_CONFIG:
            for file in options.configfile:
                assert (ROOT / file).is_file()
            config_of(options)


def test_commands_that_read_the_configuration_share_its_flags():
    assert WITH_CONFIG == ["build-dataset", "plan", "settings", "show", "diff", "train"]
    scaled = [name for name in WITH_CONFIG if "--scale" in COMMANDS[name].format_help()]
    assert scaled == ["plan", "settings", "show", "diff", "train"]


def test_flags_are_laid_over_files_as_snakemake_does(tmp_path):
    for name, content in (("one", {"evaluations": 3, "threads": 2}), ("two", {"threads": 3})):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content))
    words = ["plan", "--configfile", str(tmp_path / "one.yaml"), str(tmp_path / "two.yaml")]
    words += ["--config", "papers=[iyer2023]", "scales={midi: {time_divisor: 20}}", "container="]
    words += ["--config", "tensorboard=true"]
    config = config_of(command_line().parse([*words, "--scale", "midi", "--seed", "4", "2", "4"]))
    found = [config[key] for key in ("evaluations", "threads", "papers", "container", "tensorboard", "scale", "seeds")]
    assert found == [3, 3, ["iyer2023"], None, True, "midi", [4, 2]]
    assert config["scales"]["midi"]["time_divisor"] == 20
    assert config["scales"]["midi"]["models"] == load_config()["scales"]["midi"]["models"]


def test_a_scale_brings_its_file():
    for scale, evaluations in {"mini": 15, "small": 20, "midi": 30, "paper": 100}.items():
        for more in ([], ["--config", "evaluations=7"]):
            config = config_of(command_line().parse(["plan", "--scale", scale, *more]))
            assert (config["scale"], config["evaluations"]) == (scale, 7 if more else evaluations)
    words = ["plan", "--scale", "paper", "--configfile", str(ROOT / "config/cpu.yaml")]
    assert config_of(command_line().parse(words)) == load_config([ROOT / f"config/{n}.yaml" for n in ("paper", "cpu")])


WRONG = {
    "command": (["trian"], "whysgd: COMMAND = 'trian': allowed: .*; did you mean train?"),
    "choice": (["train", "geiping2022/fb", "--device", "cdua"], "train: --device = 'cdua': .*; did you mean cuda?"),
    "paper": (["train", "geping2022/fb"], "train: 'geping2022/fb': no such paper; .*; did you mean geiping2022?"),
    "paper without its run": (["train", "geiping2022"], "train: 'geiping2022': no such run; allowed: sgd, fb, "),
    "run without its paper": (["train", "fb-clop"], "train: 'fb-clop': must be PAPER/RUN; did you mean geiping2022/fb-clip?"),
    "measure": (["measure", "al", "--run", "x"], "measure = 'al': no such measure; allowed: .*, all; did you mean all?"),
    "data set": (["build-dataset", "digit"], "'digit': no such data set; allowed: .*; did you mean digits?"),
    "own scale without its flag": (["show", "images", "--configfile", str(ROOT / "config/image_folder.yaml")], "show: 'images' is a scale: "),
    "module": (["measure", "nowhere:nothing", "--run", "x", "--device", "cpu"], "cannot be imported (No module named 'nowhere'); PYTHONPATH must have its folder"),
    "file": (["plan", "--configfile", str(ROOT / "config/smal.yaml")], "config/smal.yaml: no such file; did you mean small.yaml?"),
    "key with another name": (["plan", "--config", "frm=records"], "--config: frm: unknown key; allowed here: .*; did you mean from?"),
    "scale without its flag": (["show", "small"], "show: 'small' is a scale: give it as --scale small"),
    "run": (["settings", "geiping2022/fb-regg"], "settings: 'geiping2022/fb-regg': no such run; .*; did you mean fb-reg?"),
    "one of two runs": (["diff", "geiping2022/fb", "geiping2022/sdg"], "diff: 'geiping2022/sdg': no such run; .*; did you mean sgd?"),
    "table": (["show", "geiping2022/mian"], "show: 'geiping2022/mian': no such table; .*; did you mean main?"),
    "scale": (["plan", "--scale", "miny"], "scale = 'miny': allowed: mini, small, midi, paper; did you mean mini?"),
    "scale to show": (["show", "--scale", "pper"], "show: scale 'pper': allowed: .*; did you mean paper?"),
    "key": (["plan", "--config", "sede=[0]"], "--config: sede: unknown key; .*; did you mean seeds?"),
    "no pair": (["plan", "--config", "seeds"], "--config: 'seeds': must be KEY=VALUE"),
}  # fmt: skip


@pytest.mark.parametrize(("words", "message"), WRONG.values(), ids=WRONG)
def test_a_typing_error_is_one_line_with_the_nearest_name(words, message, capsys):
    line = error_of(capsys, *words)
    first, _, last = message.partition(".*")
    assert first in line
    assert line.endswith(last) or not last
