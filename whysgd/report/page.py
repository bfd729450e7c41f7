"""The index page: claims, tables, figures and what is behind every number, in one file that needs no network."""

import base64
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from whysgd.report.claims import explanation
from whysgd.report.frame import FROM_RECORDS, read_frame
from whysgd.report.measures import measures_table
from whysgd.report.provenance import provenance
from whysgd.report.style import NARROW
from whysgd.report.summary import summary_blocks
from whysgd.report.table import html_table, to_html
from whysgd.report.tables import headline, presented, setting_of

TITLE = "whysgd: why does SGD generalize?"
DUBLIN_CORE = "{http://purl.org/dc/elements/1.1/}"  # the names under which an SVG says what it shows
TEMPLATES = Path(__file__).parent / "templates"
# The mark of a verdict, beside its word; the colour of both is in page.css.
VERDICTS = {"holds": "✓", "fails": "✗", "undetermined": "?"}
# Of a paper's figures the one that tells most, by kind.
TELLING = ("generalization", "strips", "width", "accuracy", "comparison")


def write_page(
    papers: list[dict],
    frames: Iterable[str],
    folder: str | Path,
    measures: dict | None,
    histories: Iterable[str],
) -> str:
    """Return the page as HTML that needs no network.

    Args:
        papers: as `whysgd.study.outputs.page` has them.
        frames: of the papers' runs.
        folder: where the page will lie.
        measures: of all runs: the files `wide`, `tidy` and `correlations`, a `caption`, and `figures`, captions by
            file; None if nothing was measured.
        histories: the frames of the runs' histories.
    """
    runs = pd.concat(map(read_frame, frames))
    found = read_frame(measures["tidy"]) if measures else None
    setting = setting_of(runs, measures=found)
    behind = provenance(runs, pd.concat(map(read_frame, histories)), found, folder)
    behind["at_paper"] = {f"{one['paper']}/{run}": at for one in papers for run, at in one["at_paper"].items()}
    contents = [_paper(paper, runs[runs.paper == paper["paper"]]) for paper in papers]
    counts = Counter(claim["verdict"] for paper in contents for claim in paper["claims"])
    all_runs = None
    if measures:
        lines = read_frame(measures["wide"])
        summary = summary_blocks(read_frame(measures["correlations"]), found, runs, setting)
        all_runs = {**measures, "table": measures_table(lines), "summary": summary, "choices": _choices(lines)}
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False, "sort_keys": False}
    environment.filters |= {"grid": html_table, "blocks": to_html, "drawn": _drawn}
    environment.filters["link"] = lambda file: os.path.relpath(file, folder)
    style, script = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return environment.get_template("index.html").render(
        title=TITLE, setting=setting, papers=contents, measures=all_runs, runs=behind, marks=VERDICTS,
        count=", ".join(f"“{verdict}” {counts[verdict]}" for verdict in VERDICTS), narrow=NARROW * 96,
        style=Markup(style), script=Markup(script),
    )  # fmt: skip


def _paper(paper: dict, runs: pd.DataFrame) -> dict:
    """Return what the page shows of a paper."""
    sentence, claims = "", []
    if paper["claims"]:
        frame = pd.read_csv(paper["claims"], dtype=str, keep_default_na=False)
        sentence, claims = explanation(frame), frame.to_dict("records")
    tables = [_table(table, paper["paper"], runs) for table in paper["tables"]]
    ends = (file for kind in TELLING for table in tables for file in table["figures"] if Path(file).stem.endswith(kind))
    return {**paper, "sentence": sentence, "claims": claims, "tables": tables, "telling": next(ends, None)}


def _table(table: dict, paper: str, runs: pd.DataFrame) -> dict:
    """Return a table with what it shows, on what that was measured, and whether the numbers come from records."""
    lines = read_frame(table["csv"])
    own = runs[runs.run.isin(lines.row[lines.n > 0])]
    recorded = (own.source == FROM_RECORDS).any()
    return {
        **table, "shown": headline(lines), "parts": presented(lines, paper, table["title"], finding=table["finding"]),
        "measured": setting_of(own, scaled=table["scaled"]), "origin": "Recorded" if recorded else "Measured here",
    }  # fmt: skip


def _choices(lines: pd.DataFrame) -> dict[str, tuple[str, list[str]]]:
    """Return, by a column of the table of all runs, its name for readers and its values, if runs differ in it."""
    columns = {"run": ("paper", lines.paper), "dataset": ("data set", lines.dataset), "model": ("network", lines.model)}
    return {head: (name, sorted(own.dropna().unique())) for head, (name, own) in columns.items() if own.nunique() > 1}


def _drawn(file: str | Path) -> dict:
    """Return what the page shows of a picture.

    Returns:
        title and setting, which its heading says, and the text that stands for the rest of it, all empty if it has
        none; width in pixels; source, a data URL of the picture without its heading. Figures with text from users never
        become markup of the page.
    """
    text = Path(file).read_text(encoding="utf-8")
    root = ElementTree.fromstring(text.encode())
    title, setting, alternative = (
        root.findtext(f".//{DUBLIN_CORE}{part}", "") for part in ("title", "source", "description")
    )
    heading = float(root.get("data-heading", 0))
    _, _, width, height = map(float, root.get("viewBox").split())
    text = text.replace(f'height="{root.get("height")}"', f'height="{height - heading:g}pt"', 1)
    text = text.replace(root.get("viewBox"), f"0 {heading:g} {width:g} {height - heading:g}", 1)
    return {
        "title": title, "setting": setting, "text": alternative.removeprefix(f"{title}.").strip(),
        "width": round(width * 96 / 72),
        "source": "data:image/svg+xml;base64," + base64.b64encode(text.encode()).decode(),
    }  # fmt: skip
