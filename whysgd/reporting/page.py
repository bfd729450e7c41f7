"""The index page: claims, tables and figures in one file that needs no network."""

import base64
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from whysgd.reporting.claims import shown
from whysgd.reporting.measures import grouped
from whysgd.reporting.reading import to_html
from whysgd.reporting.tables import formatted, formatted_gaps, gap_legend, headline, remarks

TEMPLATES = Path(__file__).parent / "templates"


def write_page(title: str, setting: str, papers: list[dict], measures: dict | None = None) -> str:
    """The page as HTML.

    Args:
        title, setting: of the whole page.
        papers: for each `paper` (its YAML; what it has as `out_of_scope` is listed), `claims` (frame), and `tables`: a
            list of `title`, `setting`, `table` (frame of `make_table`), `figures` (PNG files with captions) and, if
            there is one, a `finding`; figures of the paper and no table, PNG or GIF, are in `figures` under the title
            `picture`, if it has any.
        measures: of all runs: `table` (frame of `whysgd.reporting.measures.readable`), `figures` (as those of tables),
            `reading` (text of `whysgd.reporting.reading.write_reading`, or None) and, if there is one, a `caption`.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["table"] = _html
    environment.filters |= {
        "headline": headline, "formatted": formatted, "remarks": remarks, "gap_legend": gap_legend,
        "formatted_gaps": formatted_gaps, "claims": shown,
    }  # fmt: skip
    environment.filters |= {
        "image": _image, "source": _source, "grouped": grouped, "reading": to_html, "out_of_scope": _out_of_scope,
    }  # fmt: skip
    return environment.get_template("index.html").render(title=title, setting=setting, papers=papers, measures=measures)


def _source(paper: dict) -> str:
    """Where a paper is to be found, as far as it is published."""
    parts = (paper["paper"], paper["venue"], paper["arxiv"] and f"arXiv {paper['arxiv']}")
    return ", ".join(part for part in parts if part)


def _out_of_scope(paper: dict) -> list[str]:
    """What a paper shows and this project does not: a sentence for each table, or some of its rows."""
    sentences = []
    for part in paper.get("out_of_scope") or []:
        rows = part.get("rows") or []
        rows = rows if isinstance(rows, str) else ", ".join(map(str, rows))
        sentences.append(f"{part['table']}{f' ({rows})' if rows else ''}: {part['why']}")
    return sentences


def _html(frame: pd.DataFrame) -> str:
    return frame.to_html(index=False, escape=True, border=0, na_rep="–")


def _image(file: str | Path) -> str:
    """A PNG or GIF as a data URL: figures with text from users never become markup."""
    kind = Path(file).suffix.removeprefix(".")
    return f"data:image/{kind};base64," + base64.b64encode(Path(file).read_bytes()).decode()
