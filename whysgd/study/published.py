"""Whether a row is as published: papers/published.json keeps a digest of each row with a number.

`python -m whysgd.study.published` writes it again, after a row was corrected in the light of its paper.
"""

from collections.abc import Mapping
from pathlib import Path

from whysgd.files import digest_of, read_json, write_json

FILE = "published.json"


def digests(paper: Mapping) -> dict[str, str]:
    """Return the digest of what stands in each row with a published number: the row's settings and that number."""
    rows = [(table, row) for table, content in paper["tables"].items() for row in content["rows"]]
    published = [(table, row) for table, row in rows if row["run"] and row["mean"] is not None]
    return {_name(table, row): digest_of([paper["runs"][row["run"]], row["mean"]]) for table, row in published}


def edited(paper: Mapping, folder: Path) -> set[str]:
    """Return the rows `table/label/column` of a paper that are no longer as the file of a folder has them.

    A paper that the file does not have is a user's own: it has no edited rows.
    """
    file = folder / FILE
    known = read_json(file).get(paper["paper"]) if file.exists() else None
    return set() if known is None else {name for name, digest in digests(paper).items() if known.get(name) != digest}


def is_edited(table: str, row: Mapping, others: set[str]) -> bool:
    """Return whether a row is among those of `edited`."""
    return _name(table, row) in others


def _name(table: str, row: Mapping) -> str:
    return "/".join([table, row["label"], *([row["column"]] if row["column"] else [])])


def _write() -> None:
    from whysgd.study.config import PAPERS, paper_names
    from whysgd.study.papers import load_paper

    write_json(PAPERS / FILE, {name: digests(load_paper(name)) for name in paper_names()})


if __name__ == "__main__":
    _write()
