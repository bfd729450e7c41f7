"""What the index page says of each number, and that nothing in it names another address or becomes markup."""

import base64
import json
import re
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from conftest import Parsed
from frames import TABLE, measured, runs_frame, table_of

from whysgd.measures.catalog import QUANTITIES
from whysgd.report import page, tables
from whysgd.report.claims import COLUMNS
from whysgd.report.correlations import correlate
from whysgd.report.measures import wide
from whysgd.report.provenance import POINTS, flat, provenance
from whysgd.report.style import add_heading, plt, save_figure
from whysgd.report.table import html_table

HEADER = {"paper": "p", "title": "T", "venue": "V", "arxiv": "1", "out_of_scope": []}


def course(run="a", seed=0, points=3, **accuracies) -> pd.DataFrame:
    steps = 10 * np.arange(1, points + 1)
    keys = {"paper": "p", "run": run, "scale": "mini", "seed": seed}
    return pd.DataFrame({**keys, "step": steps, "train_accuracy": steps / 3, "test_accuracy": steps / 7, **accuracies})


def test_a_run_has_its_seeds_and_shares_settings_and_facts(tmp_path):
    lr = {"lr": 0.1, "schedule": {"unit": "run"}}
    facts = ({"device": "cpu", "data": {"sha256": "123"}}, {"device": "GPU"})
    given = ({"a": [90.123456, 91]}, lr, facts[0]), ({"b": [92]}, lr | {"clip": 0.5}, facts[1])
    first, second = (runs_frame(values, settings=json.dumps(s), facts=json.dumps(f)) for values, s, f in given)
    runs = pd.concat([first[::-1], second])
    found = provenance(runs, pd.concat([course(), course(seed=1)]), folder="runs/p")
    assert list(found["runs"]) == ["p/a", "p/b"]
    first, second = found["runs"]["p/a"]
    assert (first["seed"], second["seed"]) == (0, 1)
    assert first["file"] == "a/seeds-0/metrics.json"
    assert (first["last"], first["selected"], first["selected_step"]) == (90.123, 90.123, 123456)
    assert first["history"] == [[10, 20, 30], [3.3333, 6.6667, 10.0], [1.4286, 2.8571, 4.2857]]
    assert found["runs"]["p/b"][0]["history"] == [[], [], []]
    assert found["settings"] == [{"lr": 0.1, "schedule.unit": "run"}, {"lr": 0.1, "schedule.unit": "run", "clip": 0.5}]
    assert [seed["settings"] for seeds in found["runs"].values() for seed in seeds] == [0, 0, 1]
    assert [fact["device"] for fact in found["facts"]] == ["cpu", "GPU"]
    assert found["facts"][0]["data.sha256"] == "123"
    assert flat({"a": {"b": [1, 2]}, "c": None}) == {"a.b": "1, 2", "c": None}


def test_long_histories_are_thinned_and_keep_their_ends(tmp_path):
    test = np.arange(1.0, 1001)
    test[::2] = np.nan  # not evaluated
    history = course(points=1000, test_accuracy=test, train_accuracy=np.nan)
    steps, train, accuracies = provenance(runs_frame({"a": [1.0]}), history)["runs"]["p/a"][0]["history"]
    assert len(steps) == len(train) == len(accuracies) == POINTS
    assert (steps[0], steps[-1]) == (20, 10000)
    assert (accuracies[0], accuracies[-1]) == (2.0, 1000.0)
    assert set(train) == {None}
    assert max(np.diff(steps)) < 300


def test_measures_are_in_the_order_of_their_titles_and_infinity_is_text(tmp_path):
    found = measured(runs_frame({"a": [1.0]}), fisher_trace=np.inf, keskar_sharpness=1 / 3)
    found = provenance(runs_frame({"a": [1.0]}), course(), found)
    titles = {"fisher_trace": "Fisher trace [nats²]", "keskar_sharpness": "Keskar sharpness [%]"}
    assert list(found["quantities"].items()) == list(titles.items())
    assert found["runs"]["p/a"][0]["measures"] == [["inf", 0.1], [0.33333, 0.1]]
    json.dumps(found, allow_nan=False)


def test_what_runs_differ_in_can_be_chosen():
    runs = pd.concat([runs_frame({"a": [1.0], "b": [2.0]}), runs_frame({"c": [3.0]}, paper="q", dataset="mine")])
    lines = wide(measured(runs, keskar_sharpness=1.0), runs)
    assert page._choices(lines) == {"run": ("paper", ["p", "q"]), "dataset": ("data set", ["digits", "mine"])}


def drawn(path, title="", description="", width=1):
    """Write a figure, so many times 96 pixels wide, that says what it shows."""
    figure = plt.figure(figsize=(width, 1), layout="constrained")
    figure.set_label(description)
    if title:
        add_heading(figure, title, "n = 3")
    save_figure(figure, path)


def whole(folder, rows=TABLE["rows"], header=HEADER, measures=False, figures=None, **given) -> str:
    """A page with a table and a claim, and, if wanted, all measures."""
    runs = runs_frame({"a": [90.0, 92.0]}).assign(**given)
    tables.make_table(table_of(rows), "p", runs).to_csv(folder / "t.csv", index=False)
    runs.to_csv(folder / "r.csv", index=False)
    course().to_csv(folder / "h.csv", index=False)
    claims = [("c1", "A & <b>", "test_accuracy", "difference", "a > b", "a b", "fails", "<i>")]
    pd.DataFrame(claims, columns=COLUMNS).to_csv(folder / "c.csv", index=False)
    drawn(folder / "f.svg", description="SGD 1 % & <more>")
    drawn(folder / "g.svg", width=2)
    figures = figures or {folder / "f.svg": "C & c"}
    descent = {folder / "g.svg": "of a paper"}
    texts = {"title": "T", "setting": "S", "scaled": "lr ×4", "finding": "It holds."}
    paper = {
        **header, "claims": folder / "c.csv", "picture": "Descent", "figures": descent, "at_paper": {"a": {"lr": "0.4"}},
        "tables": [{**texts, "csv": folder / "t.csv", "figures": figures}],
    }  # fmt: skip
    shown = None
    if measures:
        found = measured(runs, keskar_sharpness=1.0, test_accuracy=90.0)
        lines = wide(found, runs)
        for name, frame in (("wide", lines), ("tidy", found), ("correlations", correlate(lines))):
            frame.to_csv(folder / f"{name}.csv", index=False)
        files = {name: folder / f"{name}.csv" for name in ("wide", "tidy", "correlations")}
        shown = {**files, "caption": "Every run", "figures": figures}
    return page.write_page([paper], [folder / "r.csv"], folder, shown, [folder / "h.csv"])


def test_the_page_is_self_contained_and_escapes_what_users_write(tmp_path):
    left_out = [{"table": "t2", "rows": ["<x>", "y"], "why": "no <data>"}]
    header = {**HEADER, "title": "<b>Title</b>", "out_of_scope": left_out}
    html = whole(tmp_path, [{**TABLE["rows"][0], "label": "<script>x</script>"}], header, measures=True, model="<i>")
    found = Parsed(html)
    addresses = {value for name, value in found.attributes if name in ("src", "href")}
    assert {address for address in addresses if not address.startswith(("data:", "#"))} == {"t.csv"}
    assert found.tags.count("script") == 2  # its own, and the data
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", html)
    assert {"b", "i"}.isdisjoint(found.tags)
    for text in ("&lt;b&gt;Title", "&lt;script&gt;x", "C &amp; c", "t2 (&lt;x&gt;, y): no &lt;data&gt;", "&lt;i&gt;"):
        assert text in html


def test_the_page_shows_the_tables_the_summary_and_all_runs(tmp_path):
    html = whole(tmp_path, measures=True)
    lines = tables.make_table(TABLE, "p", runs_frame({"a": [90.0, 92.0]}))
    assert str(html_table(tables.presented(lines, "p", "T")[0])) in html  # what make_table writes
    assert '<td class="right" data-run="p/a" data-quantity="test_accuracy">91.00 ± 1.41</td>' in html
    assert html.count("Test accuracy in percent, mean") == 1
    assert "<p>It holds.</p>" in html
    # A picture says itself what it shows, and is as wide as it was made for; its caption stands for what says nothing.
    image = '<img src="data:image/svg\\+xml;base64,[^"]+"'
    assert re.search(f'<h3>Descent</h3>\n<figure>{image} width="192" alt="of a paper">', html)
    told = 'width="96" alt="SGD 1 % &amp; &lt;more&gt;"><figcaption>C &amp; c</figcaption>'
    assert re.search(f"{image} {told}", html)
    assert '<p class="setting">p, V, arXiv 1</p>' in html
    assert '<th scope="row" data-run="p/a">p/a</th>' in html
    assert "Papers: 1; runs: 1; seeds of each: 2" in html
    assert "<output aria-live" in html
    odd = whole(tmp_path, [{**TABLE["rows"][0], "label": "007"}, {**TABLE["rows"][1], "label": "NA"}])
    assert "<td>007</td>" in odd
    assert "<td>NA</td>" in odd
    assert "scale mini: NA (5 training and 6 test images)" in whole(tmp_path, measures=True, dataset="NA")
    bare = whole(tmp_path)
    assert "Papers: 1" not in bare
    assert "Every run" not in bare
    assert "Out of scope" not in bare


def test_what_is_embedded_is_json_that_cannot_end_its_block(tmp_path):
    given = {"facts": json.dumps({"device": "</script><script>alert(1)</script> & co"})}
    html = whole(tmp_path, **given)
    assert Parsed(html).tags.count("script") == 2  # its own, and the data
    block = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)[1]
    assert "<" not in block
    runs = runs_frame({"a": [90.0, 92.0]}).assign(**given)
    assert json.loads(block) == provenance(runs, course(), folder=tmp_path) | {"at_paper": {"p/a": {"lr": "0.4"}}}


def test_claims_come_first_and_a_verdict_is_a_mark_a_word_and_a_colour(tmp_path):
    html = whole(tmp_path)
    assert html.index("<h2>Verdicts</h2>") < html.index(">T</h3>")
    assert '<td class="verdict fails"><span aria-hidden="true">✗</span> fails</td>' in html
    assert "Verdicts: “holds” 0, “fails” 1, “undetermined” 0." in html
    assert "A &amp; &lt;b&gt;" in html
    assert "<li>&lt;i&gt;</li>" in html  # the numbers, without a click
    assert re.findall('href="#run=([^"]*)"', html) == ["p/a"]  # of the runs that the claim names, those that are there


def test_the_figure_that_tells_most_comes_first_with_its_title(tmp_path):
    files = [tmp_path / f"p_t_{kind}.svg" for kind in ("comparison", "generalization")]
    for file, title in zip(files, ("C", "A < B"), strict=True):
        drawn(file, title=title)
    html = whole(tmp_path, figures={file: file.stem for file in files})
    first = html[html.index("<h2>What came out</h2>") : html.index("<h2>Verdicts</h2>")]
    assert '<p class="finding">A &lt; B.</p><p class="setting">n = 3</p>' in first
    assert 'alt="T"' in first  # What the heading says is not said again.
    # The page says what the heading says, and shows the picture below it.
    (shown,) = re.findall('"data:image/svg.xml;base64,([^"]*)"', first)
    whole_root, shown_root = map(ElementTree.fromstring, (files[1].read_text(), base64.b64decode(shown)))
    size = [float(number) for number in whole_root.get("viewBox").split()]
    heading = float(whole_root.get("data-heading"))
    assert size[3] - heading == pytest.approx(72, abs=0.02)
    below = [0, heading, size[2], size[3] - heading]
    assert [float(number) for number in shown_root.get("viewBox").split()] == pytest.approx(below)
    assert shown_root.get("height") == f"{size[3] - heading:g}pt"
    # It is not shown twice.
    assert html.count("<img") == 3
    assert '<p class="finding">C.</p><p class="setting">n = 3</p><img' in html
    # A wide one has the whole line.
    assert 'class="wide"' not in first
    drawn(files[1], width=11)
    assert '<article class="wide">' in whole(tmp_path, figures=dict.fromkeys(files, ""))
    assert "What came out" not in whole(tmp_path)


def test_a_table_says_where_its_numbers_come_from(tmp_path):
    setting = "digits (5 training and 6 test images), m, on cpu; lr ×4."
    assert f"<dt>Measured here</dt><dd>scale mini: {setting}</dd>" in whole(tmp_path)
    recorded = whole(tmp_path, source="records", older=False)
    assert f"<dt>Recorded</dt><dd>scale mini, from records: {setting}</dd>" in recorded


def test_every_quantity_has_a_title_of_its_own():
    # The page finds a quantity by its title.
    assert len({quantity.label for quantity in QUANTITIES.values()}) == len(QUANTITIES)
