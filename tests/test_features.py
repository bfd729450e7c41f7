"""docs/features.md says of each option of the released code bases where it is here: names and files must exist."""

import importlib
import re

import pytest
from conftest import ROOT

import whysgd
from whysgd.__main__ import command_line
from whysgd.data.catalog import BUILT_IN
from whysgd.results import paths
from whysgd.study.registry import FOLDERS, names, problem

TEXT = (ROOT / "docs/features.md").read_text(encoding="utf-8")
# Code base, option there, what it is here, and the test of that.
ROWS = [
    (re.match(r"\w+", section)[0], *(cell.strip() for cell in line.split("|")[1:-1]))
    for section in TEXT.split("\n## ")[1:]
    for line in section.splitlines()
    if line.startswith("| ") and not line.startswith("| option there")
]
# Keys of the typed models, and what their values may be.
SETTINGS = {*BUILT_IN}
for page in (ROOT / "docs").glob("settings*.md"):
    SETTINGS |= set(re.findall(r"`([\w.-]+)`", page.read_text(encoding="utf-8")))
for schema in (ROOT / "config/schema").glob("*.json"):
    SETTINGS |= set(re.findall(r'"([\w.-]+)"', schema.read_text(encoding="utf-8")))
WRITTEN = {value for value in vars(paths).values() if isinstance(value, str)}
PAPERS = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "papers").glob("*.yaml"))
SCALES = (ROOT / "config.yaml").read_text(encoding="utf-8")
COMMAND = "whysgd "


def exists(quoted: str) -> bool:
    """Whether there is such a command, file, method, network, setting, value, column, table or name of the package."""
    if quoted.startswith(COMMAND):
        words = quoted.removeprefix(COMMAND).split()
        (commands,) = (action.choices for action in command_line()._actions if action.choices)
        options = commands[words[0]].format_help()
        return all(re.search(rf"(?<!\S){word}\b", options) for word in words[1:] if word.startswith("--"))
    if "/" in quoted:
        return (ROOT / quoted).exists()
    if re.fullmatch(r"[\w.]+:\w+", quoted):
        module, _, name = quoted.partition(":")
        return hasattr(importlib.import_module(module), name)
    key, _, value = quoted.partition(": ")
    if value:
        return exists(key) and (exists(value) or re.search(rf"\b{key}: {value}\b", PAPERS) is not None)
    known = key in SETTINGS or key in WRITTEN or hasattr(whysgd, key) or (ROOT / key).exists()
    known = known or any(key in names(kind) for kind in FOLDERS) or problem("network", key) is None
    # A table, column or scale.
    return known or re.search(rf"^  (  )*{re.escape(key)}:", PAPERS + SCALES, re.MULTILINE) is not None


def test_every_code_base_has_its_options_in_the_table():
    assert {row[0] for row in ROWS} == {"geiping2022", "novack2023", "iyer2023", "simsekli2019"}
    assert len(ROWS) == len({row[0] + row[1] for row in ROWS})


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]} {row[1]}"[:60])
def test_what_is_here_exists_and_what_is_not_has_a_reason(row):
    assert len(row) == 4
    _, there, here, test = row
    assert there
    assert not here.startswith("no") or re.match(r"no: [\w`]", here), here
    assert here.startswith("no: ") or "`" in here
    quoted = [*re.findall(r"`([^`]+)`", here), *re.findall(r"`([^`]+)`", test)]
    assert [one for one in quoted if not exists(one)] == []
    assert test != "–" or here.startswith("no: ")
