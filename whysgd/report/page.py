"""The index page: claims, tables, figures and what is behind every number, in one file that needs no network."""

import base64
import hashlib
from collections import Counter
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from whysgd.report import cells
from whysgd.report.claims import shown
from whysgd.report.document import to_html
from whysgd.report.tables import gap_legend, headline, remarks

TEMPLATES = Path(__file__).parent / "templates"
# The mark of a verdict, beside its word; the colour of both is in page.css.
VERDICTS = {"holds": "✓", "fails": "✗", "undetermined": "?"}


def write_page(
    title: str, setting: str, papers: list[dict], measures: dict | None = None, runs: dict | None = None
) -> str:
    """The page as HTML. It asks for nothing, and a policy in it has browsers refuse whatever would.

    Args:
        title, setting: of the whole page.
        papers: for each `paper` (its YAML; what it has as `out_of_scope` is listed), `claims` (frame), and `tables`: a
            list of `title`, `setting`, `table` (frame of `make_table`), `figures` (PNG files with captions) and, if
            there are any, `measured` (on what), `origin` (a word for where the measured numbers come from) and a
            `finding`; figures of the paper and no table, PNG or GIF, are in `figures` under the title `picture`, if it
            has any.
        measures: of all runs: `table` (frame of `whysgd.report.measures.readable`), `figures` (as those of tables),
            `reading` (text of `whysgd.report.reading.write_reading`, or None) and, if there is one, a `caption`.
        runs: what is behind the numbers, see `whysgd.report.provenance.provenance`; None leaves it out.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False, "sort_keys": False}
    environment.filters |= {
        "headline": headline, "remarks": remarks, "gap_legend": gap_legend, "published_table": cells.published_table,
        "gaps_table": cells.gaps_table, "measures_table": cells.measures_table, "choices": cells.choices,
        "claims": _claims, "image": _image, "source": _source, "reading": to_html, "out_of_scope": _out_of_scope,
    }  # fmt: skip
    style, script = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return environment.get_template("index.html").render(
        title=title, setting=setting, papers=papers, measures=measures, runs=runs, count=_count(papers),
        style=Markup(style), script=Markup(script), policy=_policy(style, script),
    )  # fmt: skip


def _policy(style: str, script: str) -> str:
    """A Content-Security-Policy: nothing is loaded, no other script or style runs, and nothing is sent."""
    sources = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script))
    own, code = (f"'sha256-{source}'" for source in sources)
    return f"default-src 'none'; img-src data:; style-src {own}; script-src {code}; base-uri 'none'; form-action 'none'"


def _count(papers: list[dict]) -> str:
    """How many claims of all papers have which verdict."""
    counts = Counter(verdict for item in papers if item["claims"] is not None for verdict in item["claims"].verdict)
    return f"Verdicts: {', '.join(f'“{verdict}” {counts[verdict]}' for verdict in VERDICTS)}."


def _claims(item: dict) -> tuple[str, list[dict]]:
    """What a paper's claims compare, and each with its verdict, the mark of that, and its runs."""
    sentence, lines = shown(item["claims"])
    paper = item["paper"]["paper"]
    return sentence, [
        {**line, "mark": VERDICTS[line["verdict"]], "runs": cells.runs_of_claim(line["check"], paper)}
        for line in lines.to_dict("records")
    ]


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


def _image(file: str | Path) -> str:
    """A PNG or GIF as a data URL: figures with text from users never become markup."""
    kind = Path(file).suffix.removeprefix(".")
    return f"data:image/{kind};base64," + base64.b64encode(Path(file).read_bytes()).decode()
