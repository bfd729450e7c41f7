"""Put tables into README.md and docs/*.md, between the marks that name their files.

They are made from records, or are those of benchmarks, of which the ones that were measured here become records first.
"""

import re
import sys
from pathlib import Path

from whysgd.files import write_text
from whysgd.results.paths import RECORDS, RESULTS

MARKED = re.compile(r"(<!-- begin (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
MEASURED, KEPT = RESULTS / "benchmarks", RECORDS / "benchmarks"


def documents() -> list[Path]:
    """The files that have such tables."""
    return [Path("README.md"), *sorted(Path("docs").glob("*.md"))]


def filled(document: Path, root: Path = Path()) -> str:
    """A document with every marked place filled; one whose table is not there is left as it is, with a word."""

    def table(match: re.Match) -> str:
        file = root / match[2]
        if not file.is_file():
            print(f"{document}: {file} does not exist; its table is left as it is", file=sys.stderr)
            return match[0]
        return f"{match[1]}\n{file.read_text(encoding='utf-8')}\n{match[3]}"

    return MARKED.sub(table, document.read_text(encoding="utf-8"))


if __name__ == "__main__":
    for file in sorted(MEASURED.glob("*.md")):
        write_text(KEPT / file.name, file.read_text(encoding="utf-8"))
    for document in documents():
        write_text(document, filled(document))
