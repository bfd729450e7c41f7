"""Put tables into README.md and docs/*.md, between the marks that name their files, and pictures into docs/images/.

They are made from records, or are those of benchmarks. Those of benchmarks that were run here are kept first.
"""

import re
import sys
from pathlib import Path

import pandas as pd

from whysgd.files import write_text
from whysgd.results.paths import RECORDS, RESULTS

MARKED = re.compile(r"(<!-- begin (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
MEASURED, KEPT = RESULTS / "benchmarks", RECORDS / "benchmarks"
RECORDED = RESULTS / "recorded"
VERDICTS = RECORDED / "verdicts.md"
# Real data first.
SCALES = ("paper", "midi", "small", "mini")
PICTURES = {"docs/images/generalization.svg": RECORDED / "small/figures/geiping2022_main_generalization.svg"}


def documents() -> list[Path]:
    """Return the files that have such tables."""
    return [Path("README.md"), *sorted(Path("docs").glob("*.md"))]


def filled(document: Path, root: Path = Path()) -> str:
    """Return a document with every marked place filled; without its table a place stays as it is, with a word."""

    def table(match: re.Match) -> str:
        file = root / match[2]
        if not file.is_file():
            print(f"{document}: {file} does not exist; its table is left as it is", file=sys.stderr)
            return match[0]
        return f"{match[1]}\n{file.read_text(encoding='utf-8')}\n{match[3]}"

    return MARKED.sub(table, document.read_text(encoding="utf-8"))


def verdicts(root: Path = Path()) -> str:
    """Return the verdicts on the claims of papers with records at one of `SCALES`, as Markdown.

    A paper of whose runs one seed is recorded at a scale, so that no claim can be judged, is left out there.
    """
    lines = ["| scale | paper | holds | fails | undetermined |", "|---|---|---|---|---|"]
    places = [(scale, folder.name) for scale in SCALES for folder in sorted((root / RECORDS / scale).glob("*"))]
    for scale, paper in places:
        file = root / RECORDED / scale / f"claims/{paper}.csv"
        if not file.is_file():
            continue
        claims = pd.read_csv(file, dtype=str, keep_default_na=False)
        holds, fails, rest = (claims[claims.verdict == verdict] for verdict in ("holds", "fails", "undetermined"))
        if holds.empty and fails.empty and not any((root / RECORDS / scale / paper).glob("*/seed-[!0]*.json")):
            continue
        cells = [*("; ".join(part.id + ": " + part.claim) for part in (holds, fails)), ", ".join(rest.id)]
        lines.append(f"| {scale} | [{paper}](docs/results.md#{paper}) | {' | '.join(cell or '–' for cell in cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    for file in sorted(MEASURED.glob("*.md")):
        write_text(KEPT / file.name, file.read_text(encoding="utf-8"))
    write_text(VERDICTS, verdicts())
    for picture, file in PICTURES.items():
        write_text(Path(picture), file.read_text(encoding="utf-8"))
    for document in documents():
        write_text(document, filled(document))
