"""The README's table of methods says what the code does, with the names that both have."""

import pkgutil
import re

import pytest

from whysgd.study.registry import names
from whysgd.study.validation import ROOT
from whysgd.training.penalties.gradient_norm import PRODUCTS

SECTION = (ROOT / "README.md").read_text(encoding="utf-8").split("## The methods, exactly")[1].split("\n## ")[0]
ROWS = [[cell.strip() for cell in line.split("|")[1:-1]] for line in SECTION.splitlines() if line.startswith("| ")][1:]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_each_method_names_its_paper_a_setting_and_a_function_that_exist(row):
    _, equation, paper, setting, function = row
    assert equation
    assert (ROOT / "papers" / f"{paper}.yaml").is_file()
    found = pkgutil.resolve_name(function.strip("`"))
    assert callable(found)
    assert found.__doc__
    settings = (ROOT / "docs/settings.md").read_text(encoding="utf-8")
    for word in re.findall(r"[a-z_]+", setting.strip("`")):
        assert re.search(rf"\b{word}\b", settings), word


def test_no_method_is_missing():
    settings = "\n".join(row[3] for row in ROWS)
    for name in (*names("penalty"), *PRODUCTS, *names("transform")):
        assert re.search(rf"\b{name}\b", settings), name
