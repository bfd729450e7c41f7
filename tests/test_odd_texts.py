"""Texts with the signs of Markdown, LaTeX, HTML, formulas and shells are shown as they are, wherever they are shown."""

import html
import math
import re
import runpy
import warnings
from xml.etree import ElementTree

import pandas as pd
import pytest
from conftest import ROOT, one_line
from drawing import GRID, TABLE, frames_of, points_of
from frames import row, runs_frame, table_of
from markdown_it import MarkdownIt
from test_safety import PAPER

from whysgd.files import csv_text
from whysgd.measures.catalog import LANDSCAPE_COLUMNS
from whysgd.report.draw import draw_figure, read_points
from whysgd.report.frame import read_frame
from whysgd.report.style import save_figure
from whysgd.report.table import LATEX, Cell, Table, document, to_latex, to_markdown
from whysgd.report.trajectories import plot_trajectories
from whysgd.study.figures import FIGURES, needs
from whysgd.study.papers import load_paper
from whysgd.training import two_weights

TEXTS = [
    "a | b", "a \\| b", "\\", "\\\\|", "$\\frac$", "$x$ and $$", "^ ~ # % & _ { }", "_hidden", "*bold* _it_ __b__ ~~no~~", "`code` ``", "<b>x</b>",
    "<!-- x", "&amp; &#65;", "[a](http://x) ![i](y)", "1. one", "- item", "# head", "> quote", "+ plus", "=", "$(touch x)", "\\input{/etc/passwd}",
    "\\end{table}", "a -- b --- c", "'q' \"r\"", "https://example.org", "---", "|---|", "~~~",
]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_markdown_shows_every_text_as_it_is(text):
    table = Table(text, [text, "n"], [False, True], [[Cell(text), Cell("1")]], above=["above"], notes=[text])
    grouped = Table("t", ["r", "c"], [False, True], [[Cell(text), Cell("1")]], groups=[("", 1), (text, 1)], above=["a"])
    reader = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    page = reader.render(to_markdown([text, [text], table, grouped]))
    assert len(re.findall("<tr>", page)) == 4, page
    plain = html.unescape(re.sub(r"</?(p|ul|li|strong|table|thead|tbody|tr|t[hd])( style=\"[^\"]*\")?>", "\0", page))
    found = [part.strip() for part in plain.split("\0") if part.strip()]
    assert found.count(text) >= 6, page
    assert f"{text}." in found
    assert (text[:1].upper() + text[1:]) in found


@pytest.mark.parametrize("text", TEXTS)
def test_html_and_latex_hold_no_command_of_a_text(text):
    table = Table(text, [text], [False], [[Cell(text, text, text)]], above=["above"], notes=[text])
    page = document([text, [text], table], text)
    assert [html.unescape(cell) for cell in re.findall(r"<t[hd](?: [^>]*)?>(.*?)</t[hd]>", page)] == [text, text]
    assert not re.search(r"<b>|<!-- x", page)
    assert html.unescape(re.search(r"<title>(.*?)</title>", page)[1]) == text
    written = to_latex([table])
    known = {re.match(r"\\([a-z]+|.)", value)[1] for value in LATEX.values() if value.startswith("\\")}
    for command in re.findall(r"\\([A-Za-z]+|.)", re.sub(r"\$\\\w+\$", "", written)):
        assert command in known | {"begin", "caption", "toprule", "midrule", "bottomrule", "end", "\\"}, written
    assert written.count("\\end{table}") == 1
    assert not re.search(r"(?<!\\)[#%&_^~]", written.replace(" & ", ""))
    assert len(re.findall(r"(?<!\\)\{", written)) == len(re.findall(r"(?<!\\)\}", written))


@pytest.mark.parametrize("figure", FIGURES)
def test_figures_show_labels_as_they_are(figure, tmp_path):
    """All labels at once: the rows have them in turn."""
    table = GRID if "grid" in needs(figure) else TABLE
    for texts in ("$\\frac$", "_hidden $x^"), ("a | b <b> & {y}", "\\ # % $$"):
        rows = [{**row, "label": texts[place % 2], "column": row["column"]} for place, row in enumerate(table["rows"])]
        odd = {**table, "rows": rows, "title": texts[0], "setting": texts[1]}
        frames = frames_of(odd)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            save_figure(draw_figure(figure, odd, frames), tmp_path / "f.svg", tmp_path / "f.png")
        shown = "".join(ElementTree.parse(tmp_path / "f.svg").getroot().itertext())
        # No formula that was meant as such is shown as its source.
        assert "mathdefault" not in shown
        if "grid" not in needs(figure):
            assert all(text in shown.replace("\u200b", "") for text in texts), shown


def test_trajectories_have_no_formulas(tmp_path):
    settings = load_paper("seminar")["trajectories"]
    methods = {name: {**method, "label": "$\\frac$"} for name, method in settings["methods"].items()}
    settings = {**settings, "methods": methods, "steps": 20}
    save_figure(plot_trajectories(settings, pd.DataFrame(two_weights.trajectories(settings))), tmp_path / "t.svg")
    text = (tmp_path / "t.svg").read_text()
    assert "$\\frac$" in text
    assert "mathdefault" not in text


@pytest.mark.parametrize("name", ["NA", "nan", "None", "null", "007"])
def test_names_that_a_csv_file_could_mean_otherwise_are_read_back(tmp_path, name):
    runs = runs_frame({name: [90.0, 92.0]}, dataset=name, model=name, device=name)
    runs.to_csv(tmp_path / "runs.csv", index=False)
    pd.testing.assert_frame_equal(read_frame(tmp_path / "runs.csv"), runs)
    points = points_of([name]).assign(loss=math.nan)
    (tmp_path / "points.csv").write_text(csv_text(LANDSCAPE_COLUMNS, points.to_dict("records")))
    pd.testing.assert_frame_equal(read_points([tmp_path / "points.csv"]), points)
    files = {end: tmp_path / f"table.{end}" for end in ("csv", "md", "tex", "html")}
    make_table = runpy.run_path(str(ROOT / "workflow_scripts/make_table.py"))["make_table"]
    make_table(table_of([row(name, name)]), "p", runs=tmp_path / "runs.csv", **files)
    text = files["md"].read_text()
    assert f"{name} (5 training and 6 test images), {name}, on {name}" in text
    assert re.search(rf"^\| {name} +\| {name} .* 91\.00 ± 1\.41 ", text, re.MULTILINE)
    assert read_frame(files["csv"]).loc[0, ["row", "label"]].tolist() == [name, name]


LABELS = {
    "two lines": ("a\\nb", "a b"), "a tab and a no-break space": ("a\\t\\u00a0b", "a b"), "a number": (2024, "2024"),
    "a control character": ("a\\u0001b", None), "NUL": ("a\\0b", None), "other alphabets": ("名 ü 🙂", "名 ü 🙂"),
}  # fmt: skip


@pytest.mark.parametrize(("label", "read"), LABELS.values(), ids=LABELS.keys())
def test_labels_are_one_line_without_control_characters(load_own_paper, label, read):
    written = label if isinstance(label, int) else f'"{label}"'
    change = ("label: l", f"label: {written}")
    if read is None:
        with one_line(r"papers/mine.yaml: tables.main.rows\[0\].label = .*no control characters"):
            load_own_paper(PAPER, change)
    else:
        assert load_own_paper(PAPER, change)["tables"]["main"]["rows"][0]["label"] == read
