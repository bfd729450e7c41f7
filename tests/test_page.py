"""What the index page says of each number, and that nothing in it can ask for anything or become markup."""

import base64
import hashlib
import json
import re

import numpy as np
import pandas as pd
import pytest
from test_measure_reports import runs_frame
from test_reporting import TABLE, Links, frame, row

from whysgd.errors import UserError
from whysgd.measures.catalog import QUANTITIES
from whysgd.report import page, tables
from whysgd.report.cells import Cell, choices, gaps_table, measures_table, published_table, runs_of_claim
from whysgd.report.measures import COLUMNS, readable, wide
from whysgd.report.provenance import POINTS, flat, provenance

HEADER = {"paper": "p", "title": "T", "venue": "V", "arxiv": "1"}
ACCURACIES = {"test_accuracy": 90.123456, "train_accuracy": 99.0}


def metrics(folder, run="a", seed=0, device="cpu", **settings):
    """The path of a written metrics.json."""
    content = {
        "paper": "p", "run": run, "scale": "mini", "seed": seed, "status": "finished", "steps": 100,
        "final": ACCURACIES, "best": {"step": 60, "selected_on": "test", **ACCURACIES},
        "settings": {"paper": "p", "run": run, "scale": "mini", "seed": seed, "lr": 0.1, "schedule": {"unit": "run"}, **settings},
        "spec_digest": "d", "data": {"label": "<digits>", "sha256": "123"}, "code_digest": "c", "device": device,
        "versions": {"torch": "2"}, "started": "2026-01-01T00:00:00+00:00", "ended": "2026-01-01T00:00:01+00:00",
    }  # fmt: skip
    file = folder / f"runs/p/{run}/seed-{seed}/metrics.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(content))
    return file


def course(run="a", seed=0, points=3, **accuracies) -> pd.DataFrame:
    steps = 10 * np.arange(1, points + 1)
    keys = {"paper": "p", "run": run, "scale": "mini", "seed": seed}
    return pd.DataFrame({**keys, "step": steps, "train_accuracy": steps / 3, "test_accuracy": steps / 7, **accuracies})


def measured(**values) -> pd.DataFrame:
    keys = {"paper": "p", "run": "a", "scale": "mini", "seed": 0, "status": "finished"}
    lines = [{**keys, "quantity": name, "value": value, "std_error": 0.123456} for name, value in values.items()]
    return pd.DataFrame(lines, columns=COLUMNS)


def test_a_run_has_its_seeds_and_shares_settings_and_facts(tmp_path):
    files = [metrics(tmp_path, seed=1), metrics(tmp_path), metrics(tmp_path, "b", device="GPU", clip=0.5)]
    found = provenance(files, pd.concat([course(), course(seed=1)]), folder=tmp_path)
    assert list(found["runs"]) == ["p/a", "p/b"]
    first, second = found["runs"]["p/a"]
    assert (first["seed"], second["seed"]) == (0, 1)
    assert first["file"] == "runs/p/a/seed-0/metrics.json"
    assert (first["last"], first["selected"], first["selected_step"]) == (90.123, 90.123, 60)
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
    steps, train, accuracies = provenance([metrics(tmp_path)], history)["runs"]["p/a"][0]["history"]
    assert len(steps) == len(train) == len(accuracies) == POINTS
    assert (steps[0], steps[-1]) == (20, 10000)
    assert (accuracies[0], accuracies[-1]) == (2.0, 1000.0)
    assert set(train) == {None}
    assert max(np.diff(steps)) < 300


def test_measures_are_in_the_order_of_their_titles_and_infinity_is_text(tmp_path):
    found = provenance([metrics(tmp_path)], course(), measured(fisher_trace=np.inf, keskar_sharpness=1 / 3))
    assert list(found["quantities"].items()) == [
        ("keskar_sharpness", "Keskar sharpness [%]"),
        ("fisher_trace", "Fisher trace [nats²]"),
    ]
    assert found["runs"]["p/a"][0]["measures"] == [[0.33333, 0.12], ["inf", 0.12]]
    json.dumps(found, allow_nan=False)


def test_damaged_metrics_are_named(tmp_path):
    file = metrics(tmp_path)
    file.write_text('{"paper": "p"}')
    with pytest.raises(UserError, match=str(file)):
        provenance([file], course())


def test_measured_cells_name_their_run_and_others_do_not():
    lines = tables.make_table(TABLE, "p", frame({"a": [90.0, 92.0], "b": [81.5]}))
    table = published_table(lines, "p")
    assert table.rows[0][3] == Cell("91.00 ± 1.41", "p/a", "test_accuracy")
    assert table.rows[0][4].run == "p/a"
    assert {cell.run for place, cell in enumerate(table.rows[0]) if place not in (3, 4)} == {""}
    assert not any(cell.run for cell in table.rows[2])
    assert gaps_table(lines, "p") is None


def test_cells_of_a_table_with_columns_name_the_run_of_their_column():
    gap = {"from": "m.lb", "to": "m.sb"}
    cells = [row("m.sb", "M", 95.0, column="SB"), row("m.lb", "M", 85.0, column="LB"),
             {**row("m.gn", "M", 90.0, column="GN"), "gap": gap, "published_gap": 0.5}, row(None, "N", column="SB"),
             row("n.lb", "N", column="LB"), row("n.gn", "N", column="GN")]  # fmt: skip
    table = {**TABLE, "columns": {"SB": {}}, "rows": [{**cell, "metric": "best_test_accuracy"} for cell in cells]}
    runs = frame({"m.sb": [90.0, 91.0], "m.lb": [80.0, 81.0], "m.gn": [86.0, 87.0]})
    lines = tables.make_table(table, "p", runs.assign(best_test_accuracy=runs.test_accuracy))
    shown, gaps = published_table(lines, "p"), gaps_table(lines, "p")
    assert shown.heads == ["label", "SB", "LB", "GN"]
    assert shown.rows[0][1] == Cell("95.00 → 90.50 ± 0.71", "p/m.sb", "best_test_accuracy")
    assert [cell.run for cell in shown.rows[1]] == ["", "", "", ""]
    assert gaps.heads == ["label", "GN"]
    assert gaps.rows[0][1] == Cell("50 → 60", "p/m.gn", "best_test_accuracy")


def test_a_cell_of_a_measured_quantity_says_which():
    table = {**TABLE, "rows": [{**row("a", "A"), "metric": "fisher_trace"}]}
    found = published_table(tables.make_table(table, "p", frame({"a": [90.0]}), measured(fisher_trace=2.0)), "p")
    assert found.rows[0][3] == Cell("2.00", "p/a", "fisher_trace")


def test_the_table_of_all_runs_has_groups_and_can_be_chosen_from():
    runs = pd.concat([runs_frame({"a": [1.0], "b": [2.0]}), runs_frame({"c": [3.0]}, "q").assign(dataset="mine")])
    table = measures_table(readable(wide(measured(keskar_sharpness=1.0), runs)))
    assert table.heads == ["run", "seeds", "diverged", "dataset", "test accuracy [%]", "Keskar sharpness [%]"]
    assert table.groups == [("", 1), ("", 3), ("accuracy gap", 1), ("Keskar sharpness", 1)]
    assert table.numbers == [False, True, True, False, True, True]
    assert table.rows[0][0] == Cell("p/a", "p/a")
    assert table.rows[0][5] == Cell("1.00", "p/a", "keskar_sharpness")
    assert table.rows[1][5] == Cell("–")
    assert choices(table, "run") == ["p", "q"]
    assert choices(table, "dataset") == ["digits", "mine"]
    assert choices(table, "model") == []


def test_a_claim_names_the_runs_it_compares():
    assert runs_of_claim("sgd - fb >= 10 points and fb < sgd", "p") == ["p/sgd", "p/fb"]
    assert runs_of_claim("each(mnist) < 2", "p") == []


def whole(runs=None, **part) -> str:
    """A page with a table and a claim."""
    lines = tables.make_table(TABLE, "p", frame({"a": [90.0, 92.0]}))
    claims = pd.DataFrame([{"id": "c1", "claim": "A & <b>", "metric": "test_accuracy", "check": "a > b", "verdict": "fails",
                            "evidence": "<i>"}])  # fmt: skip
    table = {"title": "T", "setting": "S", "table": lines, "figures": [], **part}
    return page.write_page("whysgd", "here", [{"paper": HEADER, "claims": claims, "tables": [table]}], runs=runs)


def test_the_policy_allows_what_is_in_the_page_and_nothing_else(tmp_path):
    html = whole(provenance([metrics(tmp_path)], course(), folder=tmp_path))
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)[1].replace("&#39;", "'")
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    for tag in ("style", "script"):
        content = re.search(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)[1]
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert rules[f"{tag}-src"] == f"'sha256-{digest}'"
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", html)


def test_what_is_embedded_is_json_that_cannot_end_its_block(tmp_path):
    files = [metrics(tmp_path, "a", device="</script><script>alert(1)</script> & co")]
    runs = provenance(files, course(), folder=tmp_path)
    html = whole(runs)
    links = Links()
    links.feed(html)
    assert links.tags.count("script") == 2  # its own, and the data
    block = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)[1]
    assert "<" not in block
    assert json.loads(block) == runs


def test_claims_come_first_and_a_verdict_is_a_mark_a_word_and_a_colour():
    html = whole()
    assert html.index("<h2>Claims</h2>") < html.index(">T</h3>")
    assert '<td class="verdict fails"><span aria-hidden="true">✗</span> fails</td>' in html
    assert "Verdicts: “holds” 0, “fails” 1, “undetermined” 0." in html
    assert "A &amp; &lt;b&gt;" in html
    assert "<p>&lt;i&gt;.</p>" in html
    assert 'href="#run=' not in html  # nothing is known of the runs


def test_a_table_says_what_was_measured_and_where_its_numbers_come_from():
    assert "Measured here" not in whole()
    assert "<dt>Measured here</dt><dd>scale mini: d on m.</dd>" in whole(measured="scale mini: d on m")
    assert "<dt>Recorded</dt><dd>d.</dd>" in whole(measured="d", origin="Recorded")


def test_every_quantity_has_a_title_of_its_own():
    # The page finds a quantity by its title.
    assert len({quantity.label for quantity in QUANTITIES.values()}) == len(QUANTITIES)
