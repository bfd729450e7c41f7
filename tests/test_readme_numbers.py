"""The tables of README.md and docs/ are those that the records make: made again here, and compared."""

import os
import re
import sys

import pytest
from conftest import ROOT, copy_project
from test_workflow import snakemake

sys.path.insert(0, str(ROOT / "workflow_scripts"))
import update_readme

pytestmark = pytest.mark.workflow
# Of each scale, the files laid over config.yaml with which its runs were made.
OVERLAYS = {"mini": [], "paper": ["--configfile", "config/paper.yaml", "config/mnist.yaml"]}


def marks() -> list[str]:
    texts = [(ROOT / document).read_text(encoding="utf-8") for document in update_readme.documents()]
    return [match[2] for text in texts for match in update_readme.MARKED.finditer(text)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A copy of the project with its records, and the tables that the documents show, made from these."""
    folder = tmp_path_factory.mktemp("readme") / "project"
    copy_project(folder)
    for scale, overlay in OVERLAYS.items():
        targets = sorted({mark for mark in marks() if mark.startswith(f"results/recorded/{scale}/")})
        assert targets
        # The README's verdicts are on the claims of every recorded paper.
        targets += [
            f"results/recorded/{scale}/claims/{paper.name}.csv" for paper in (ROOT / "records" / scale).iterdir()
        ]
        snakemake(folder, *targets, *overlay, "--config", "from=records")
    (folder / update_readme.VERDICTS).write_text(update_readme.verdicts(folder), encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_every_marked_table_comes_from_records():
    places = r"(results/recorded/(verdicts|[a-z]+/(tables|claims|measures)/[\w-]+)|records/benchmarks/[\w-]+)\.md"
    for mark in marks():
        assert re.fullmatch(places, mark), mark
    assert len(set(marks())) > 20


def test_the_tables_of_the_documents_are_those_of_the_records(made):
    for document in update_readme.documents():
        assert update_readme.filled(document, made) == document.read_text(encoding="utf-8"), (
            f"{document}: run `make readme`"
        )


def test_a_table_that_drifts_is_seen(made, tmp_path, monkeypatch):
    document = tmp_path / "results.md"
    text = (ROOT / "docs/results.md").read_text(encoding="utf-8")
    number = re.search(r"\| +(\d\d\.\d\d) ± \d\.\d\d \| +\d\d\.\d\d \|", text)
    document.write_text(text[: number.start(1)] + "12.34" + text[number.end(1) :], encoding="utf-8")
    assert update_readme.filled(document, made) == text


def test_no_table_is_without_a_mark():
    """A table with "measured" in its head has numbers, and these are generated."""
    for document in update_readme.documents():
        rest = update_readme.MARKED.sub("", (ROOT / document).read_text(encoding="utf-8"))
        assert not re.search(r"^\|.*\bmeasured +\|", rest, re.MULTILINE), os.fspath(document)
