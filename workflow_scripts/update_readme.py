"""Put the default run's tables into README.md, between the marks that name their files."""

import re
import sys
from pathlib import Path

from whysgd.files import write_text

MARKED = re.compile(r"(<!-- begin (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def update_readme(readme: Path) -> None:
    text = readme.read_text(encoding="utf-8")
    filled = MARKED.sub(lambda m: f"{m[1]}\n{Path(m[2]).read_text(encoding='utf-8')}\n{m[3]}", text)
    write_text(readme, filled)


if __name__ == "__main__":
    try:
        update_readme(Path("README.md"))
    except FileNotFoundError as error:
        sys.exit(f"error: {error.filename}: no such file; run `make` first")
