"""Markdown as this project writes it, as HTML."""

import re

from markupsafe import Markup, escape

STYLE = """body{font:15px/1.5 system-ui,sans-serif;margin:1rem;color:#222;background:#fff}
div{overflow-x:auto}table{border-collapse:collapse;font-size:.9rem}
th,td{padding:.25rem .6rem;border-bottom:1px solid #ddd;text-align:left;vertical-align:top}th{border-bottom-color:#888}
.right{text-align:right;font-variant-numeric:tabular-nums}td.right{white-space:nowrap}"""
PAGE = Markup(
    '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{}</title>\n<style>{}</style>\n<body>\n{}\n'
    "</body>\n</html>\n"
)
BOLD = re.compile(r"\*\*(.+?)\*\*")


def document(markdown: str, title: str) -> str:
    """A page of its own, for readers that show HTML but no Markdown, as Snakemake's report does."""
    return str(PAGE.format(title, Markup(STYLE), to_html(markdown)))


def to_html(markdown: str) -> Markup:
    """A text without its title as HTML: paragraphs, `##` headings, lists, tables and `**bold**`, all escaped."""
    return Markup("\n").join(map(_block, (part for part in markdown.strip().split("\n\n") if part[:2] != "# ")))


def _block(part: str) -> Markup:
    lines = part.splitlines()
    if part.startswith("## "):
        return Markup("<h3>{}</h3>").format(part.removeprefix("## "))
    if part.startswith("- "):
        items = (Markup("<li>{}</li>").format(line.removeprefix("- ")) for line in lines)
        return Markup("<ul>{}</ul>").format(Markup("").join(items))
    if part.startswith("|"):
        return _table(lines)
    return Markup("<p>{}</p>").format(Markup(BOLD.sub(r"<strong>\1</strong>", str(escape(part)))))


def _table(lines: list[str]) -> Markup:
    """Columns of numbers, those with `---:` in the line below the heads, are on the right."""
    head, rule, *body = ([cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines)
    right = [cell.endswith(":") for cell in rule]
    rows = [_row(head, "th", right), *(_row(cells, "td", right) for cells in body)]
    return Markup('<div class="scroll"><table>{}</table></div>').format(Markup("").join(rows))


def _row(cells: list[str], tag: str, right: list[bool]) -> Markup:
    # A cell with a bar of its own makes its row longer than the rule.
    sides = [*right, *[False] * (len(cells) - len(right))]
    kinds = (Markup(' class="right"' if side else "") for side in sides)
    parts = (Markup("<{0}{1}>{2}</{0}>").format(Markup(tag), k, cell) for k, cell in zip(kinds, cells, strict=False))
    return Markup("<tr>{}</tr>").format(Markup("").join(parts))
