"""One table for all formats: what each writer makes of it, and that no text becomes markup."""

import shutil
import subprocess

import pytest
from conftest import Parsed

from whysgd.report.table import Cell, Table, document, to_html, to_latex, to_markdown

TABLE = Table(
    "Title", ("label", "n", "m"), (False, True, True),
    [(Cell("one"), Cell("1.00", "p/a", "flatness"), Cell("–")), (Cell("two"), Cell("-20.5 ± 0.1"), Cell(""))],
    above=("Above.", "Origin."), notes=("", "Below."),
)  # fmt: skip


def test_markdown_has_numbers_on_the_right_and_texts_around_the_table():
    assert to_markdown([TABLE]) == (
        "**Title.** Above.\n\nOrigin.\n\n"
        "| label   |           n |   m |\n|:--------|------------:|----:|\n"
        "| one     |        1.00 |   – |\n| two     | -20.5 ± 0.1 |     |\n\nBelow.\n"
    )
    assert to_markdown(["text", "", ["a", "b"]]) == "text\n\n- a\n- b\n"


def test_markdown_of_a_table_with_groups_is_a_table_for_each():
    grouped = Table("T", ("run", "seeds", "x", "y", "z"), (False, *[True] * 4), [list(map(Cell, "r1234"))],
                    [("", 1), ("", 1), ("first", 2), ("second", 1)])  # fmt: skip
    first, second = to_markdown([grouped]).split("**Second**\n\n")
    assert first.startswith("**First**\n\n| run   |   seeds |   x |   y |\n")
    assert "| r     |       1 |   2 |   3 |" in first
    assert second.startswith("| run   |   seeds |   z |\n")
    assert '<td colspan="1"></td><td colspan="1"></td><th scope="colgroup" colspan="2">first</th>' in to_html([grouped])


def test_html_has_the_run_and_the_quantity_behind_a_number():
    html = document(["text", ["item"], TABLE], "<T>")
    assert "<title>&lt;T&gt;</title>" in html
    assert "<p>text</p>\n<ul><li>item</li></ul>\n<p><strong>Title.</strong> Above.</p>\n<p>Origin.</p>" in html
    assert 'aria-label="Title"' in html
    assert '<th scope="col">label</th><th scope="col" class="right">n</th>' in html
    assert '<th scope="row">one</th><td class="right" data-run="p/a" data-quantity="flatness">1.00</td>' in html
    assert "</div>\n<p>Below.</p>" in html


def test_latex_has_the_same_cells():
    latex = to_latex([TABLE])
    caption = "\\caption{Title. Above. Origin. Below.}"
    assert latex.startswith(f"\\begin{{table}}\n{caption}\n\\begin{{tabular}}{{lrr}}\n\\toprule\n")
    assert "two & -20.5 $\\pm$ 0.1 &  \\\\\n\\bottomrule" in latex


# A text of a paper's file, and what Markdown and LaTeX need for it to be read as it stands.
TEXTS = {
    "a|b": (r"a\|b", r"a\textbar{}b"),
    "$x^2$": (r"\$x^2\$", r"\$x\textasciicircum{}2\$"),
    r"\alpha": (r"\\alpha", r"\textbackslash{}alpha"),
    "<b>1 < 2</b>": (r"\<b>1 < 2\</b>", r"\textless{}b\textgreater{}1 \textless{} 2\textless{}/b\textgreater{}"),
    "two\nlines": ("two lines", "two lines"),
    "*a* _b_ c_d": (r"\*a\* \_b\_ c_d", r"*a* \_b\_ c\_d"),
    "`x` & &amp; 5 %": (r"\`x\` & \&amp; 5 %", r"`x` \& \&amp; 5 \%"),
    "{#1} ~": (r"{#1} \~", r"\{\#1\} \textasciitilde{}"),
    "± – − → η ≥": ("± – − → η ≥", r"$\pm$ -- $-$ $\to$ $\eta$ $\geq$"),
}


@pytest.mark.parametrize(("text", "markdown", "latex"), [(text, *forms) for text, forms in TEXTS.items()])
def test_every_text_is_read_as_it_stands(text, markdown, latex):
    """As a title, a head, a cell, a group, a paragraph above and below, an item, and the name of a run."""
    table = Table(text, ("h", text), (False, True), [(Cell(text, text), Cell(text))], above=(text,), notes=(text,))
    written = to_markdown([table])
    outside = markdown.replace(r"\|", "|")
    assert written.startswith(f"**{outside}.** {outside}\n\n| h")
    assert [line.count(f" {markdown} ") for line in written.splitlines() if line[:2] == "| "] == [1, 2]
    assert to_markdown([[text]]) == f"- {outside}\n"
    assert to_latex([table]).count(latex) == 6
    found = Parsed(to_html([table, [text]]))
    named = [value for name, value in found.attributes if name.startswith(("data-", "aria-"))]
    assert [*found.texts, *named].count(text) == 7
    assert set(found.tags) == {"p", "strong", "div", "table", "thead", "tbody", "tr", "th", "td", "ul", "li"}


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="an extra: pdflatex is not installed")
def test_latex_accepts_every_text(tmp_path):
    table = Table("All", ("text",), (False,), [(Cell(text),) for text in TEXTS], above=list(TEXTS))
    source = "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\n" + to_latex([table]) + "\\end{document}"
    (tmp_path / "t.tex").write_text(source)
    command = ["pdflatex", "-halt-on-error", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
