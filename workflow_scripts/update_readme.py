"""Put measured tables into README.md and docs/*.md, between the marks that name their files."""

import re
import sys
from pathlib import Path

from whysgd.files import write_text

MARKED = re.compile(r"(<!-- begin (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def update_tables(document: Path) -> None:
    """Fill every marked place of a document; a table that was not measured here is left as it is, with a word."""

    def filled(match: re.Match) -> str:
        file = Path(match[2])
        if not file.is_file():
            print(f"{document}: {file} does not exist; its table is left as it is", file=sys.stderr)
            return match[0]
        return f"{match[1]}\n{file.read_text(encoding='utf-8')}\n{match[3]}"

    write_text(document, MARKED.sub(filled, document.read_text(encoding="utf-8")))


if __name__ == "__main__":
    for document in (Path("README.md"), *sorted(Path("docs").glob("*.md"))):
        update_tables(document)
