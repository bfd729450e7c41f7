"""What the index page shows, read from the files that the rules made."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from whysgd.report import tables
from whysgd.report.frame import RECORDS
from whysgd.report.page import write_page
from whysgd.report.provenance import provenance

TITLE = "whysgd: why does SGD generalize?"


def page_from_files(
    papers: list[dict],
    frames: Sequence[str],
    folder: str | Path,
    measures: dict | None = None,
    metrics: Sequence[str] = (),
    histories: Sequence[str] = (),
) -> str:
    """The page as HTML.

    Args:
        papers: what `whysgd.report.page.write_page` takes, with a `header` in place of `paper`, and the paths of CSV
            files: `claims` (or None) and, of each table, `csv`.
        frames: of the papers' runs.
        folder: where the page will lie.
        measures: likewise with the paths `csv`, `tidy` and `reading`, the last two of which may be None.
        metrics, histories: metrics.json, or the record, of every run, and the frames of their histories; without any,
            the page does not tell what is behind its numbers.
    """
    runs = pd.concat([pd.read_csv(frame) for frame in frames])
    contents = [
        {
            "paper": paper["header"],
            "claims": pd.read_csv(paper["claims"]) if paper["claims"] else None,
            **{key: paper[key] for key in ("picture", "figures")},
            "tables": [_table(table, runs[runs.paper == paper["header"]["paper"]]) for table in paper["tables"]],
        }
        for paper in papers
    ]
    found = pd.read_csv(measures["tidy"]) if measures and measures["tidy"] else None
    behind = None
    if metrics:
        behind = provenance(metrics, pd.concat([pd.read_csv(file) for file in histories]), found, folder)
    return write_page(TITLE, tables.setting_of(runs, measures=found), contents, _measures(measures), behind)


def _table(table: dict, runs: pd.DataFrame) -> dict:
    """With its lines, on what those were measured, and whether these numbers were read from records."""
    lines = pd.read_csv(table["csv"])
    own = runs[runs.run.isin(lines.row[lines.n > 0])]
    recorded = "source" in own and (own.source == RECORDS).any()
    origin = "Recorded" if recorded else "Measured here"
    return {**table, "table": lines, "measured": tables.setting_of(own), "origin": origin}


def _measures(measures: dict | None) -> dict | None:
    if not measures:
        return None
    # What a table has as text is left as it is.
    table = pd.read_csv(measures["csv"], dtype=str, keep_default_na=False)
    reading = Path(measures["reading"]).read_text(encoding="utf-8") if measures["reading"] else None
    return {**measures, "table": table, "reading": reading}
