"""Whether a row is as published: papers/published.json keeps a digest of the settings of each row with a number.

`python -m whysgd.study.published` writes it again, after a row was corrected in the light of its paper.
"""

from collections.abc import Mapping
from pathlib import Path

from whysgd.files import digest_of, read_json, write_json

FILE = "published.json"


def digests(paper: Mapping) -> dict[str, str]:
    """Return the digest of each run that a row with a published number names, of a paper of `load_paper`."""
    rows = [row for table in paper["tables"].values() for row in table["rows"]]
    published = {row["run"] for row in rows if row["run"] and row["mean"] is not None}
    return {run: digest_of(paper["runs"][run]) for run in sorted(published)}


def edited(paper: Mapping, folder: Path) -> set[str]:
    """Return the runs of a paper whose settings are no longer those of their rows, by the file of a folder."""
    file = folder / FILE
    known = read_json(file).get(paper["paper"], {}) if file.exists() else {}
    return {run for run, digest in digests(paper).items() if known.get(run, digest) != digest}


def _write() -> None:
    from whysgd.study.papers import PAPERS, load_paper

    papers = sorted(file.stem for file in PAPERS.glob("*.yaml"))
    write_json(PAPERS / FILE, {name: digests(load_paper(name)) for name in papers})


if __name__ == "__main__":
    _write()
