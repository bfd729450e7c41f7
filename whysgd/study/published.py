"""Whether a row is as published: papers/published.json keeps a digest of each row with a number.

`python -m whysgd.study.published` writes it again, after a row was corrected in the light of its paper.
"""

from collections.abc import Mapping
from pathlib import Path

from whysgd.files import digest_of, read_json, write_json

FILE = "published.json"


def digests(paper: Mapping) -> dict[str, str]:
    """Return the digest of each row with a published number, of its settings and that number, by its name."""
    rows = [(_name(table, row), row) for table, content in paper["tables"].items() for row in content["rows"]]
    published = {name: row for name, row in rows if row["run"] and row["mean"] is not None}
    return {name: digest_of([paper["runs"][row["run"]], row["mean"]]) for name, row in published.items()}


def mark_edited(paper: Mapping, folder: Path) -> None:
    """Set `edited` of each row of a paper: whether it is no longer as the file of a folder has it.

    A paper that the file does not have is a user's own: it has no edited rows.
    """
    file, now = folder / FILE, digests(paper)
    known = (read_json(file) if file.exists() else {}).get(paper["paper"], now)
    for table, content in paper["tables"].items():
        for row in content["rows"]:
            name = _name(table, row)
            row["edited"] = name in now and now[name] != known.get(name)


def _name(table: str, row: Mapping) -> str:
    return "/".join([table, row["label"], *([row["column"]] if row["column"] else [])])


if __name__ == "__main__":
    from whysgd.study.config import PAPERS, paper_names
    from whysgd.study.papers import load_paper

    write_json(PAPERS / FILE, {name: digests(load_paper(name)) for name in paper_names()})
