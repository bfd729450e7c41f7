"""Tables for readers, and texts around them, written as Markdown, HTML and LaTeX; every text is escaped here.

A text is a list of blocks: a str is a paragraph, a list of them is bullets, a `Table` is a table.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from markupsafe import Markup, escape
from tabulate import tabulate

STYLE = """body{font:15px/1.5 system-ui,sans-serif;margin:1rem;color:#222;background:#fff}
div{overflow-x:auto}table{border-collapse:collapse;font-size:.9rem}
th,td{padding:.25rem .6rem;border-bottom:1px solid #ddd;text-align:left;vertical-align:top;font-weight:normal}
thead th{border-bottom-color:#888;font-weight:bold}
.right{text-align:right;font-variant-numeric:tabular-nums}td.right{white-space:nowrap}"""
PAGE = Markup(
    '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{}</title>\n<style>{}</style>\n<body>\n{}\n'
    "</body>\n</html>\n"
)
# What Markdown would not show as it stands: its signs, links, underscores at the edge of a word, tags and entities.
MARKDOWN = re.compile(r"[\\`*$~]|\](?=[(\[])|(?<![^\W_])_|_(?![^\W_])|<(?=[A-Za-z/!?])|&(?=#?\w+;)")
MARKDOWN_START = re.compile(r"^([#>+=-]|\d+(?=[.)]))")
LATEX = str.maketrans({
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "%": r"\%", "#": r"\#", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "±": r"$\pm$", "–": "--", "−": "$-$", "→": r"$\to$", "≥": r"$\geq$", "≤": r"$\leq$",
    "×": r"$\times$", "η": r"$\eta$", "λ": r"$\lambda$", "ρ": r"$\rho$", "²": "$^2$", "✓": r"$\surd$", "✗": r"$\times$",
})  # fmt: skip


class Cell(NamedTuple):
    """A cell's text and, if it is a measured number, the run (paper/run) and the quantity that it is of."""

    text: str
    run: str = ""
    quantity: str = ""


@dataclass(frozen=True)
class Table:
    """A table with the texts that belong to it.

    Attributes:
        title: of the table.
        heads, numbers: of each column its head, and whether it holds numbers, which stand on the right.
        rows: of cells; the first one names the row.
        groups: (name, columns below it) of neighbouring columns, if they have names of their own.
        above, notes: paragraphs above the table and below it.
    """

    title: str
    heads: Sequence[str]
    numbers: Sequence[bool]
    rows: Sequence[Sequence[Cell]]
    groups: Sequence[tuple[str, int]] = ()
    above: Sequence[str] = ()
    notes: Sequence[str] = ()


def plain(text) -> str:
    """Return a text in one line."""
    return " ".join(str(text).split())


def to_markdown(blocks: Iterable) -> str:
    """Return blocks as Markdown. A table with groups becomes one for each group: a page of text is not that wide."""
    return "\n\n".join(text for block in blocks for text in _markdown(block)) + "\n"


def _markdown(block) -> list[str]:
    if isinstance(block, str):
        return [_markdown_text(block)] if block else []
    if isinstance(block, list):
        return ["\n".join(f"- {_markdown_text(item)}" for item in block)]
    above = [_markdown_text(text) for text in block.above]
    if above:
        above[0] = f"**{_markdown_text(block.title)}.** {above[0]}"
    tables = (text for name, places in _parts(block) for text in (name, _markdown_table(block, places)) if text)
    return [*above, *tables, *(_markdown_text(text) for text in block.notes if text)]


def _parts(table: Table) -> list[tuple[str, list[int]]]:
    """Return the name and the places of columns of each group, with the columns that have no group in front."""
    names = [name for name, width in table.groups for _ in range(width)]
    if not any(names):
        return [("", list(range(len(table.heads))))]
    common = [place for place, name in enumerate(names) if not name]
    grouped = groupby((place for place, name in enumerate(names) if name), lambda place: names[place])
    return [(f"**{_markdown_text(name[0].upper() + name[1:])}**", [*common, *places]) for name, places in grouped]


def _markdown_table(table: Table, places: Sequence[int]) -> str:
    heads = [_markdown_cell(table.heads[place]) for place in places]
    rows = [[_markdown_cell(row[place].text) for place in places] for row in table.rows]
    sides = ["right" if table.numbers[place] else "left" for place in places]
    return tabulate(rows, heads, "pipe", colalign=sides, disable_numparse=True)


def _markdown_cell(text: str) -> str:
    return MARKDOWN.sub(r"\\\g<0>", plain(text)).replace("|", "\\|")


def _markdown_text(text: str) -> str:
    return MARKDOWN_START.sub(r"\1\\" if text[:1].isdigit() else r"\\\1", MARKDOWN.sub(r"\\\g<0>", plain(text)))


def to_html(blocks: Iterable) -> Markup:
    """Return blocks as HTML."""
    return Markup("\n").join(_html(block) for block in blocks if block)


def document(blocks: Iterable, title: str) -> str:
    """Return a page of its own, for readers that show HTML but no Markdown, as Snakemake's report does."""
    return str(PAGE.format(title, Markup(STYLE), to_html(blocks)))


def _html(block) -> Markup:
    if isinstance(block, str):
        return Markup("<p>{}</p>").format(block)
    if isinstance(block, list):
        return Markup("<ul>{}</ul>").format(Markup().join(Markup("<li>{}</li>").format(item) for item in block))
    above = list(map(escape, block.above))
    if above:
        above[0] = Markup("<strong>{}.</strong> {}").format(block.title, above[0])
    return Markup("\n").join([*map(_html, above), html_table(block), *(_html(text) for text in block.notes if text)])


def html_table(table: Table) -> Markup:
    """Return the table alone, without the texts around it; cells have their run and quantity as data attributes."""
    groups = Markup().join(
        Markup('<th scope="colgroup" colspan="{}">{}</th>').format(width, name) if name
        else Markup('<td colspan="{}"></td>').format(width)
        for name, width in table.groups
    )  # fmt: skip
    return Markup(
        '<div class="scroll{}" tabindex="0" role="region" aria-label="{}">\n<table>\n<thead>\n{}{}\n</thead>\n'
        "<tbody>\n{}\n</tbody>\n</table>\n</div>"
    ).format(
        " tall" if groups else "", table.title, groups and Markup("<tr>{}</tr>\n").format(groups),
        _html_row(list(map(Cell, table.heads)), table.numbers, "col"),
        Markup("\n").join(_html_row(row, table.numbers, "row") for row in table.rows),
    )  # fmt: skip


def _html_row(cells: Sequence[Cell], numbers: Sequence[bool], scope: str) -> Markup:
    """Return a row of heads (scope "col"), or one whose first cell alone is a head (scope "row")."""
    parts = []
    for place, (cell, number) in enumerate(zip(cells, numbers, strict=True)):
        tag = "th" if scope == "col" or not place else "td"
        given = {
            "scope": tag == "th" and scope, "class": number and "right", "data-run": cell.run,
            "data-quantity": cell.quantity,
        }  # fmt: skip
        attributes = Markup().join(Markup(' {}="{}"').format(name, value) for name, value in given.items() if value)
        parts.append(Markup("<{0}{1}>{2}</{0}>").format(tag, attributes, cell.text))
    return Markup("<tr>{}</tr>").format(Markup().join(parts))


def to_latex(tables: Iterable[Table]) -> str:
    """Return table environments; the texts around a table are its caption. Needs the package booktabs."""
    return "\n".join(map(_latex, tables))


def _latex(table: Table) -> str:
    def line_of(texts):
        return f"{' & '.join(map(_latex_text, texts))} \\\\"

    caption = " ".join(_latex_text(text) for text in (f"{table.title}.", *table.above, *table.notes) if text)
    form = "".join("r" if number else "l" for number in table.numbers)
    rows = [line_of(cell.text for cell in row) for row in table.rows]
    return "\n".join([
        r"\begin{table}", rf"\caption{{{caption}}}", rf"\begin{{tabular}}{{{form}}}", r"\toprule", line_of(table.heads),
        r"\midrule", *rows, r"\bottomrule", r"\end{tabular}", r"\end{table}", "",
    ])  # fmt: skip


def _latex_text(text: str) -> str:
    return plain(text).translate(LATEX)
