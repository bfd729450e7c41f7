"""The tables of README.md and docs/ are those that the records make: made again here, and compared."""

import os
import re
from types import SimpleNamespace

import pytest
import update_readme
from check_claims import check_claims
from collect_records import collect_records
from conftest import ROOT
from make_table import make_table
from summarize_measures import summarize_measures

from whysgd.results import paths
from whysgd.results.recorded import with_records
from whysgd.study.config import load_config
from whysgd.study.workflow import Study

# Of each scale, the files laid over config.yaml with which its runs were made.
OVERLAYS = {"mini": [], "small": ["small"], "midi": ["midi"], "paper": ["paper", "cpu"]}


def marks() -> list[str]:
    texts = [(ROOT / document).read_text(encoding="utf-8") for document in update_readme.documents()]
    return [match[2] for text in texts for match in update_readme.MARKED.finditer(text)]


def frame_of(study: Study, paper: str, name: str) -> str:
    return paths.FRAME.format(scale=study.scale, paper=paper, frame=name)


def make(study: Study, target: str) -> None:
    """Make a file of a paper's tables or claims, or of the summary, as its rule does."""
    _, kind, name = target.removeprefix(f"results/{study.scale}").split("/")
    paper, _, table = name.removesuffix(".md").partition("_")
    outputs = {end: target.removesuffix("md") + end for end in ("csv", "md", "html")}
    if kind == "tables":
        inputs, tex = study.table_inputs(paper, table), target.removesuffix("md") + "tex"
        make_table(study.table(paper, table), paper, **inputs, **outputs, tex=tex)
    elif kind == "claims":
        check_claims(study.claims(paper), paper, **study.claims_inputs(paper), **outputs)
    else:
        folder, figure = paths.SUMMARY.format(scale=study.scale), paths.CORRELATIONS.format(scale=study.scale)
        files = {"tidy": "tidy.csv", "wide": "runs.csv", "md": "table.md", "html": "table.html",
                 "correlations": "correlations.csv", "summary_md": "summary.md", "summary_html": "summary.html"}  # fmt: skip
        outputs = {key: f"{folder}/{file}" for key, file in files.items()}
        frames = [[frame_of(study, own, name) for own in study.config["papers"]] for name in ("measures", "runs")]
        summarize_measures(*frames, SimpleNamespace(**outputs, svg=f"{figure}.svg", png=f"{figure}.png"))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with the tables that the documents show, made from the records."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "records").symlink_to(ROOT / "records")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        every = marks()
        patch.chdir(folder)
        for scale, overlay in OVERLAYS.items():
            study = Study(with_records(load_config([ROOT / f"config/{name}.yaml" for name in overlay])))
            options = {name: study.measuring.get(name, {}) for name in study.config["measures"]}
            for paper in study.config["papers"]:
                frames = [frame_of(study, paper, name) for name in ("runs", "histories", "measures")]
                collect_records(study.records(paper), options, *frames)
            targets = {mark for mark in every if mark.startswith(f"results/recorded/{scale}/")}
            assert targets
            # The README's verdicts are on the claims of every recorded paper.
            judged = [paper for paper in study.config["papers"] if study.claims(paper)]
            targets |= {f"{paths.CLAIMS.format(scale=study.scale, paper=paper)}.md" for paper in judged}
            # One call makes both files of the summary.
            for target in sorted(target for target in targets if not target.endswith("measures/table.md")):
                make(study, target)
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
        same = update_readme.filled(document, made) == document.read_text(encoding="utf-8")
        assert same, f"{document}: run `make readme`"


def test_a_table_that_drifts_is_seen(made, tmp_path):
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
