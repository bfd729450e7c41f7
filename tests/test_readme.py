"""README.md and docs/ say what is there: their links, their commands, and the table of methods."""

import importlib
import re
import shlex
from pathlib import Path

import pytest

from whysgd.__main__ import command_line
from whysgd.study.registry import names
from whysgd.study.validation import ROOT
from whysgd.training.penalties.gradient_norm import PRODUCTS

DOCUMENTS = ["README.md", *sorted(f"docs/{file.name}" for file in (ROOT / "docs").glob("*.md"))]
TEXTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in DOCUMENTS}
SETTINGS = "".join(text for name, text in TEXTS.items() if name.startswith("docs/settings"))
SECTION = TEXTS["docs/methods.md"].split("## Table")[1].split("\n## ")[0]
ROWS = [[cell.strip() for cell in line.split("|")[1:-1]] for line in SECTION.splitlines() if line.startswith("| ")][1:]


def anchors(text: str) -> set[str]:
    """The names that headings have in links, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_to_files_and_headings_that_exist(document):
    for link in re.findall(r"\]\(([^)\s]+)\)", TEXTS[document]):
        if re.match(r"https?://", link):
            continue
        file, _, anchor = link.partition("#")
        target = (ROOT / document).parent / file if file else ROOT / document
        assert target.is_file(), link
        assert not anchor or anchor in anchors(target.read_text(encoding="utf-8")), link


def commands(text: str) -> list[list[str]]:
    """The words of each command in a text's shell examples, without comments."""
    examples = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [shlex.split(line, comments=True) for example in examples for line in example.splitlines()]
    return [words for words in lines if words]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_name_options_rules_and_files_that_exist(document):
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for words in commands(TEXTS[document]):
        if words[0] == "make":
            assert set(words[1:]) <= set(targets), words
        names = [Path(word).name for word in words]
        if "whysgd" in names and "--help" not in words:
            command_line().parse(words[names.index("whysgd") + 1 :])
        for word in words:
            if re.match(r"(config|profiles|records|envs|benchmarks)/[\w./-]+$", word):
                assert (ROOT / word).exists(), word


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_each_method_names_its_paper_a_setting_and_a_file_that_exist(row):
    _, equation, paper, settings, file = row
    assert equation
    assert (ROOT / "papers" / f"{paper}.yaml").is_file()
    path = file.strip("`")
    assert (ROOT / path if "/" in path and path.startswith("whysgd") else ROOT / "whysgd/training" / path).is_file()
    for module, name in re.findall(r"([\w.]+):(\w+)", settings):
        assert hasattr(importlib.import_module(module), name), name
    for word in re.findall(r"\b[a-z_]+\b", settings):
        assert re.search(rf"\b{word}\b", SETTINGS), word


def test_no_method_is_missing():
    settings = "\n".join(row[3] for row in ROWS)
    for name in (*names("penalty"), *PRODUCTS, *names("transform"), *names("schedule")):
        assert re.search(rf"\b{name.replace('_', '.')}\b", settings), name


def test_no_network_and_no_figure_is_missing():
    networks = [*names("network"), "fc_d<depth>_w<width>", "alexnet_ch<channels>"]
    for document, kind in (("docs/methods.md", networks), ("docs/papers.md", names("figure"))):
        assert [name for name in kind if f"`{name}`" not in TEXTS[document]] == []
