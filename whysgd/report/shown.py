"""What `whysgd show` prints of finished results: the summary of a scale, a paper, or a table.

A scale is a folder of results/: `mini`, or `recorded/mini` for what was made from records.
"""

import csv
from collections import Counter
from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path

from whysgd.errors import UserError
from whysgd.results.paths import CLAIMS, PAGE, RECORDS, RESULTS, RUNS, TABLE
from whysgd.study.claims import UNDETERMINED
from whysgd.study.config import DEFAULT_FILE, paper_names
from whysgd.study.papers import load_paper
from whysgd.study.validation import read_yaml

TELLING = 3  # numbers of a summary


def scales_with_results() -> list[str]:
    """Return the scales that have tables, those from records last."""
    folders = [*sorted(RESULTS.glob("*/tables")), *sorted(RESULTS.glob("recorded/*/tables"))]
    return [folder.parent.relative_to(RESULTS).as_posix() for folder in folders if any(folder.glob("*.md"))]


def scales_with_records() -> dict[str, int]:
    """Return the number of records of each scale that has any."""
    return dict(sorted(Counter(file.parts[1] for file in RECORDS.glob("*/*/*/seed-*.json")).items()))


def found_tables(scale: str, paper: str) -> list[str]:
    """Return the tables of a paper that were made at a scale, in the paper's order."""
    if not any(_table(scale, paper, "x").parent.glob(f"{paper}_*.md")):
        return []  # The file of a paper that was not run need not be in order.
    return [table for table in load_paper(paper)["tables"] if _table(scale, paper, table).is_file()]


def summary_text(scale: str) -> str:
    """Return a scale's summary: on what was measured, all verdicts, some of their numbers, and where the rest is."""
    tables = [f"{paper}/{table}" for paper in paper_names() for table in found_tables(scale, paper)]
    verdicts = {paper: lines for paper in paper_names() if (lines := _verdicts(scale, paper))}
    wide = max(map(len, verdicts), default=0)
    listed = [
        f"{paper:{wide}}  {line['id']:3}  {line['verdict']:12}  {line['claim']}"
        for paper, lines in verdicts.items()
        for line in lines
    ]
    numbers = [f"{paper:{wide}}  {line['id']:3}  {line['evidence']}" for paper, line in _telling(verdicts)]
    examples = (tables[0], tables[0].partition("/")[0]) if tables else ()
    page = PAGE.format(scale=scale)
    places = {
        "tables": ", ".join(tables),
        "print": " or ".join(f"whysgd show {what}{_flag(scale)}" for what in examples),
        "page": f"{page}, beside tables/ and figures/" if Path(page).is_file() else "",
        "results at": ", ".join(scales_with_results()),
        "records at": ", ".join(f"{name} ({count} runs)" for name, count in scales_with_records().items()),
    }
    rest = [f"{name + ':':12}{text}" for name, text in places.items() if text]
    blocks = (_measured(scale), listed, numbers, rest)
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _telling(verdicts: Mapping[str, list[dict]]) -> list[tuple[str, dict]]:
    """Return the claims whose numbers a summary shows: of each paper the first that was decided, then the second."""
    decided = (
        [(paper, line) for line in lines if line["verdict"] != UNDETERMINED] for paper, lines in verdicts.items()
    )
    return [one for each in zip_longest(*decided) for one in each if one][:TELLING]


def _flag(scale: str) -> str:
    """Return the shortest flag that has `whysgd show` show this scale."""
    name = scale.removeprefix("recorded/")
    name = scale if name in scales_with_results() else name
    return "" if name == read_yaml(DEFAULT_FILE)["scale"] else f" --scale {name}"


def _measured(scale: str) -> list[str]:
    """Return on what was measured, and how many networks."""
    import pandas as pd

    from whysgd.report.frame import read_frame
    from whysgd.report.tables import setting_of

    files = [file for paper in paper_names() if (file := Path(RUNS.format(scale=scale, paper=paper))).is_file()]
    if not files:
        return [f"Scale {scale}."]
    runs = pd.concat(map(read_frame, files), ignore_index=True)
    setting, diverged = setting_of(runs), (runs.status != "finished").sum()
    count = runs.groupby(["paper", "run"]).ngroups
    return [f"{setting[0].upper()}{setting[1:]}.", f"{count} runs, {len(runs)} trained networks, {diverged} diverged."]


def _verdicts(scale: str, paper: str) -> list[dict]:
    file = Path(CLAIMS.format(scale=scale, paper=paper) + ".csv")
    if not file.is_file():
        return []
    with file.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def made_text(scale: str, what: str) -> str:
    """Return a table, or all tables and claims of a paper; refuse what was not made at this scale."""
    paper, _, table = what.partition("/")
    files = [_table(scale, paper, one) for one in found_tables(scale, paper) if table in ("", one)]
    files += [] if table else filter(Path.is_file, [Path(CLAIMS.format(scale=scale, paper=paper) + ".md")])
    if not files:
        made = [f"{name}/{one}" for name in paper_names() for one in found_tables(scale, name)]
        raise UserError(f"show: {what}: was not made at scale {scale}; made: {', '.join(made) or 'none'}")
    return "\n".join(file.read_text(encoding="utf-8") for file in files).rstrip()


def _table(scale: str, paper: str, table: str) -> Path:
    return Path(TABLE.format(scale=scale, paper=paper, table=table) + ".md")
