"""The scripts of docs/examples/ run, without a download, and print what they found."""

import runpy

import pytest
from conftest import ROOT

EXAMPLES = sorted((ROOT / "docs/examples").glob("*.py"))


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_the_example_runs_and_is_short(file, capsys, monkeypatch):
    monkeypatch.setattr("urllib.request.urlopen", None)
    runpy.run_path(str(file), run_name="__main__")
    printed = capsys.readouterr().out
    assert printed
    assert "nan" not in printed
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 40


def test_the_readme_links_each_example():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [file.name for file in EXAMPLES if f"(docs/examples/{file.name})" not in readme] == []
