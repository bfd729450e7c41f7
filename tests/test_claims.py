"""Claims: their grammar, what a scale leaves of them, and the verdicts."""

import math
from typing import get_args

import numpy as np
import pandas as pd
import pytest
from conftest import one_line
from frames import measured, runs_frame, seeded

from whysgd.report.claims import MEANINGS, Values, claims_blocks, early_norm_ratios, evaluate_claims, judge_claim
from whysgd.report.statistics import difference
from whysgd.report.table import to_markdown
from whysgd.study import claims as grammar
from whysgd.study.claims import Difference, GapShare, OfTables, Ranking, needed_measures, parse_claims, planned_rows
from whysgd.study.config import load_config
from whysgd.study.paper import ClaimMetric, TableMetric
from whysgd.study.papers import claims_at, load_paper

RUNS = ["a", "b", "c", "z", "a.b-c", "gn", "uj", "sb", "lb", "sgd", "fb-reg"]
ENDS = {"from": "lb", "to": "sb"}
GAPS = dict.fromkeys(("gn", "uj", "lb", "sb"), ENDS)
GRID = {"grid": {"columns": {"width": [4, 8, 16]}}}
TABLES = {"t": GRID, "u": GRID, "names": {"grid": {"columns": {"width": [4, "wide"]}}}, "plain": {"grid": None}}
# The runs of both tables as a scale makes them: rows of (run, place).
ROWS = {"t": ((("a", 4), ("b", 8)),), "u": ((("c", 4),),)}


def claim(check, metric="test_accuracy", **other):
    """A claim of a paper with the runs, gaps and tables above."""
    given = {"id": "x", "claim": "C", "metric": metric, "check": check, **other}
    paper = {"claims": [given], "runs": RUNS, "gaps": GAPS, "tables": TABLES}
    return parse_claims(paper, "papers/p.yaml")[0]


def verdict(check, values, metric="test_accuracy", rows=ROWS, intervals=()):
    """The verdict and the evidence where every run is made."""
    return judge_claim(claim(check, metric).at_scale(RUNS, rows), Values(seeded(values), dict(intervals)))


@pytest.mark.parametrize(
    ("check", "expected"),
    [
        ("a >= b", [Difference((("a", 1), ("b", -1)), 0, False)]),
        ("sgd - b >= 10 points", [Difference((("sgd", 1), ("b", -1)), 10, False)]),
        ("fb-reg >= sgd - 0.5 points", [Difference((("fb-reg", 1), ("sgd", -1)), -0.5, False)]),
        ("a + 1 < b", [Difference((("b", 1), ("a", -1)), 1, True)]),
        ("a > b and c >= 1", [Difference((("a", 1), ("b", -1)), 0, True), Difference((("c", 1),), 1, False)]),
        ("a < b <= c", [Difference((("b", 1), ("a", -1)), 0, True), Difference((("c", 1), ("b", -1)), 0, False)]),
        ("gap(gn) >= 0.6 and a > b", [GapShare(("gn",), 0.6, 1, False, ("gn", "lb", "sb")), Difference((("a", 1), ("b", -1)), 0, True)]),
        ("gap(uj) < 1", [GapShare(("uj",), 1.0, -1, True, ("uj", "lb", "sb"))]),
        ("spearman(a, a.b-c,c) < 0 and a > 1", [Ranking(("a", "a.b-c", "c"), -1), Difference((("a", 1),), 1, True)]),
        ("each(t, u) < 2 and trend(u)", [OfTables("each", ("t", "u"), 2.0, -1), OfTables("trend", ("u",))]),
        ("each(t) > -0.5", [OfTables("each", ("t",), -0.5)]),
    ],
)  # fmt: skip
def test_checks_become_comparisons(check, expected):
    assert [one for part in claim(check).parts for one in part.comparisons] == expected


def test_a_gap_is_compared_without_a_fraction():
    share = GapShare(("gn",), 0.6, 1, False, ("gn", "lb", "sb"))
    assert dict(share.linear.weights) == pytest.approx({"gn": 1, "lb": -0.4, "sb": -0.6})
    linear = GapShare(("gn",), 1.0, -1, True, ("gn", "lb", "sb")).linear
    assert (dict(linear.weights), linear.needed, linear.strict) == ({"gn": -1, "sb": 1}, 0, True)


MISTAKES = {
    **dict.fromkeys(["a", "a = b"], "has no comparison; allowed: <, <=, >, >="),
    **dict.fromkeys(["a >=", ">= 3"], "a run or a number is missing"),
    "a >= b -": "not understood at 'b -'; allowed: runs and numbers, with [+] or - between them",
    **dict.fromkeys(["a b >= c", "a >= b; c", "a >= nan points"], "not understood at '(a b|b; c|nan points)'"),
    **dict.fromkeys(["a >= a", "3 >= 2"], "a comparison must name a run"),
    **dict.fromkeys(["gap(gn)", "gap(gn) >= b", "gap(a, b) >= 1", "gap() > 1", "gap(gn) = 1"], r"allowed: gap\(a run\)"),
    **dict.fromkeys(["0.6 <= gap(gn)", "0 > spearman(a, b)"], "not understood at"),
    **dict.fromkeys([f"spearman({rest}" for rest in ("a) < 0", "a, b)", "a, b) <= 0", "a, b) < 0.5", "a b) < 0")],
                    r"allowed: spearman\(a run, another, …\) < 0 or > 0"),
    "spearman(a, b, a) < 0": "spearman names a run twice",
    "each(t, t) > 1": "each names a table twice",
    "a > nope": "no run 'nope'; allowed: a, b",
    "gap(lb) > 0.5": r"gap\(lb\): the run has no gap; allowed: gn, uj",
    "each(x) > 1": "no table 'x'; allowed: t, u, names, plain",
    **dict.fromkeys(["trend(names)", "trend(plain)"], "the table must have a grid with numbers along its columns"),
    "each(t)": r"allowed: each\(a table, …\) < or > a number",
    "trend(t) > 0": r"not understood at 'trend\(t\) > 0'; allowed: trend\(a table\)",
    # Not every metric can be compared in every way.
    ("a < gn", "early_norm_ratio"): "early_norm_ratio needs a run with a gap; allowed: gn, uj, lb, sb",
    ("gap(gn) > 1", "early_norm_ratio"): r"gap\(...\) is of an accuracy, not of early_norm_ratio",
    ("gap(gn) > 1", "flatness"): r"gap\(...\) is of an accuracy, not of flatness",
    ("each(t) > 1", "early_norm_ratio"): r"each\(...\) and trend\(...\) are not of early_norm_ratio",
}  # fmt: skip


@pytest.mark.parametrize(("check", "message"), MISTAKES.items())
def test_each_mistake_is_one_line_with_file_and_key(check, message):
    check, *metric = [check] if isinstance(check, str) else check
    with one_line(message) as caught:
        claim(check, *metric)
    assert str(caught.value).startswith(f"papers/p.yaml: claims[0].check = {check!r}: ")


def test_a_scale_judges_the_parts_whose_runs_it_makes():
    two = claim("gap(gn) >= 0.5 and a > b")
    assert two.at_scale({"gn", "lb"}, {}) is None  # a gap needs its ends
    assert two.at_scale({"gn", "lb", "a", "b"}, {}).left_out == ("gap(gn) >= 0.5",)
    assert [type(one) for one in two.at_scale({"gn", "lb", "a", "b"}, {}).comparisons] == [Difference]
    assert two.at_scale(RUNS, {}).left_out == ()
    assert claim("a < b < c").at_scale({"a", "b"}, {}) is None  # a chain is one part
    early = claim("gn < 1", "early_norm_ratio")
    assert early.references == (("gn", "sb"),)
    assert early.at_scale({"gn", "lb"}, {}) is None
    assert early.at_scale({"gn", "sb"}, {}).left_out == ()
    tables = claim("each(t, u) < 2 and trend(u)").at_scale((), {"t": ROWS["t"], "u": ()})
    assert tables.left_out == ("each(u) < 2", "trend(u)")
    assert [(str(one), one.rows, one.needs) for one in tables.comparisons] == [("each(t) < 2", ROWS["t"], ("a", "b"))]
    assert two.runs == ("gn", "a", "b")
    assert tables.runs == ()


def test_the_places_of_runs_are_those_of_the_columns_axis_or_numbers():
    rows = [{"label": label, "run": run, "planned": run != "b", "axes": {"width": width}}
            for label, run, width in (("r", "a", 4), ("r", "b", 8), ("r", "c", 16), ("s", "z", 4))]  # fmt: skip
    assert planned_rows({**GRID, "rows": rows}) == ((("a", 4), ("c", 16)), (("z", 4),))
    assert planned_rows({"grid": None, "rows": rows}) == ((("a", 0), ("c", 1)), (("z", 0),))


def test_claims_survive_as_parameters_of_a_rule():
    """Snakemake compares a list of parameters by its repr: it must be the same each time, and no address."""
    once = [claims_at(load_config(), paper) for paper in ("novack2023", "simsekli2019")]
    load_paper.cache_clear()
    again = [claims_at(load_config(), paper) for paper in ("novack2023", "simsekli2019")]
    assert once == again
    assert repr(once) == repr(again)
    assert "object at" not in repr(once)


def test_the_papers_claims_and_the_measures_they_need():
    iyer = {one.id: (one.metric, one.check) for one in load_paper("iyer2023")["claims"]}
    explored = "explore-0, explore-30, explore-60, explore-100"
    assert iyer == {
        "i1": ("test_accuracy", "knee >= explore-100 and knee >= one-cycle and knee >= cosine and knee >= linear"),
        "i2": ("test_accuracy", "knee-150 >= explore-100 - 0.2 points"),
        "i3": ("keskar_sharpness", f"spearman({explored}) < 0"),
        "i4": ("test_accuracy", f"spearman({explored}) > 0"),
    }
    assert needed_measures(one.metric for one in load_paper("iyer2023")["claims"]) == {"keskar"}
    assert needed_measures(one.metric for one in load_paper("novack2023")["claims"]) == set()
    # A quantity that the run's own log has too needs no measure.
    assert needed_measures(["test_accuracy", "hessian_trace"]) == {"hessian"}
    everywhere = {one.id: one for one in claims_at(load_config(settings={"scale": "paper"}), "simsekli2019")}
    assert everywhere["s1"].left_out == everywhere["s2"].left_out == ()
    assert len(everywhere["s1"].comparisons[0].needs) == 162 + 162 + 20
    mini = {one.id: one for one in claims_at(load_config(settings={"scale": "mini"}), "simsekli2019")}
    assert mini["s1"].left_out == ("each(cifar10, alexnet) < 2",)
    assert [str(one) for one in mini["s2"].comparisons] == ["trend(mnist)"]
    assert mini["s2"].left_out == ("trend(cifar10)",)


def test_papers_may_have_the_metrics_that_there_are_and_each_has_words():
    assert set(get_args(ClaimMetric)) == set(grammar.METRICS) == set(MEANINGS)
    assert set(get_args(TableMetric)) == {*grammar.ACCURACIES, *grammar.MEASURED}
    assert MEANINGS["keskar_sharpness"] == "Keskar sharpness [%] of the trained network"


LOW, MIDDLE, HIGH, EQUAL = [1.0, 1.1], [5.0, 5.1], [9.0, 9.1], [90.0, 90.0]
SURE = {"gn": [88.9, 89.1], "lb": [85.9, 86.1], "sb": [89.9, 90.1]}  # 75 %
FALLING = {"a": [9.0, 8.0, 8.5], "b": [7.0, 6.0, 8.2], "c": [3.0, 4.0]}


@pytest.mark.parametrize(
    ("check", "values", "expected"),
    [
        ("a >= b", {"a": [90.0, 90.2], "b": [80.0, 80.2]}, "holds"),
        ("a >= b", {"a": [80.0, 80.2], "b": [90.0, 90.2]}, "fails"),
        ("a >= b", {"a": [80.0, 95.0], "b": [81.0, 90.0]}, "undetermined"),
        ("a >= b", {"a": [90.0], "b": [80.0]}, "undetermined"),
        ("a >= b", {"a": [90.0, 91.0]}, "undetermined"),
        ("a >= b", {"a": [0.1, math.inf], "b": [0.3, 0.4]}, "undetermined"),
        ("a >= b", {"a": EQUAL, "b": EQUAL}, "holds"),
        ("a > b", {"a": EQUAL, "b": EQUAL}, "fails"),
        ("a < b < c", {"a": LOW, "b": MIDDLE, "c": HIGH}, "holds"),
        ("a < b < c", {"a": LOW, "b": HIGH, "c": MIDDLE}, "fails"),
        ("a < b < c", {"a": LOW, "b": MIDDLE}, "undetermined"),
        ("gap(gn) >= 0.5", SURE, "holds"),
        ("gap(gn) <= 0.5", SURE, "fails"),
        ("gap(gn) >= 0.75", SURE, "undetermined"),
        ("gap(gn) <= 1", SURE, "holds"),
        ("gap(gn) > 0", SURE, "holds"),
        ("gap(gn) >= 0.5 and gap(gn) <= 0.6", SURE, "fails"),
        ("gap(gn) >= 0.5", {**SURE, "gn": [89.0]}, "undetermined"),
        ("gap(gn) >= 0.5", {**SURE, "sb": []}, "undetermined"),
        ("spearman(a, b, c) < 0", FALLING, "holds"),
        ("spearman(a, b, c) > 0", FALLING, "fails"),
        ("spearman(c, b, a) > 0", FALLING, "holds"),
        ("spearman(a, c, b) < 0", {"a": [1.0, 2.0], "b": [1.5, 2.5], "c": [1.1, 1.9]}, "undetermined"),
        ("spearman(a, b, c) > 0", {"a": [1.0], "b": [2.0], "c": [3.0]}, "undetermined"),  # p = 1/3
        ("spearman(a, b) < 0", {"a": [2.0], "b": [1.0]}, "undetermined"),
        ("spearman(a, b) < 0", {"a": [2.0, 2.0], "b": [2.0]}, "undetermined"),
        ("spearman(a, b) < 0", {**FALLING, "b": [math.nan, 1.0]}, "undetermined"),
        ("spearman(a, b, z) < 0", FALLING, "undetermined"),
        ("spearman(a, b, c) < 0 and a > c", FALLING, "holds"),
    ],
)
def test_verdicts(check, values, expected):
    assert verdict(check, values)[0] == expected


def test_the_evidence_has_the_numbers_that_decided():
    values = {"a": [95.0, 96.0, 97.5], "b": [90.0, 94.0, 91.0, 92.5]}
    found, half = difference({"a": 1.0, "b": -1.0}, seeded(values))
    interval = f"[{found - half:+.2f}, {found + half:+.2f}]"
    said = f"a - b = {found:+.2f} {interval}, claimed ≥ 2 (about 6 seeds would decide)"
    assert verdict("a - b >= 2 points", values)[1] == said
    assert verdict("a > b", {"a": [2.0], "b": [1.0]})[1] == "a - b = +1.00, claimed > 0 (one seed: no interval)"
    assert verdict("a > b", {"a": [0.04], "b": [0.0115]}, "flatness")[1].startswith("a - b = +0.0285,")
    assert "a: has no such number for one of its seeds" in verdict("a < b", {"a": [math.inf], "b": [0.3]})[1]
    assert verdict("a > b", {"a": [1.0]}) == ("undetermined", "not run: b")
    assert verdict("a > b", {"a": [1.0]}, "flatness") == ("undetermined", "not measured: b")
    evidence = verdict("spearman(a, b, c) < 0", FALLING)[1]
    assert evidence.startswith("spearman(a, b, c) = -0.8")
    assert evidence.endswith(", n = 8, claimed < 0")
    assert "all values are the same" in verdict("spearman(a, b) < 0", {"a": [2.0, 2.0], "b": [2.0]})[1]
    assert "n = 2, too few" in verdict("spearman(a, b) < 0", {"a": [2.0], "b": [1.0]})[1]


def test_a_failing_part_decides_though_another_is_not_run():
    fails, sentence = verdict("sb > gn and gn > sb and sb > sgd", SURE)
    assert fails == "fails"
    assert sentence.count(", claimed > 0") == 2
    assert sentence.endswith("; not run: sgd")
    assert verdict("sb > lb and sb > sgd", SURE)[0] == "undetermined"


def test_the_evidence_of_a_gap_has_percent_and_the_interval_that_decided():
    found, half = difference({"gn": 1.0, "lb": -0.5, "sb": -0.5}, seeded(SURE))
    interval = f"[{found - half:+.2f}, {found + half:+.2f}]"
    assert verdict("gap(gn) >= 0.5", SURE)[1] == f"gap(gn) = 75 %, claimed 50 %; points over that: +1.00 {interval}"
    assert verdict("gap(gn) <= 0.9", SURE)[1].startswith("gap(gn) = 75 %, claimed 90 %; points under that: +0.60 [")


@pytest.mark.parametrize("check", ["gap(gn) >= 0.1", "gap(gn) <= 0.1"])
def test_without_a_gap_between_its_ends_nothing_is_determined(check):
    """The run is clearly above both ends, but small batches are not clearly above large ones."""
    found, evidence = verdict(check, {"gn": [99.0, 99.1], "lb": [84.0, 90.0], "sb": [85.0, 91.0]})
    assert found == "undetermined"
    assert "but sb - lb = +1.00 [" in evidence
    assert evidence.endswith("is not clearly above 0: there is no gap to recover")
    below = {"gn": [99.0, 99.1], "lb": [90.0, 90.1], "sb": [85.0, 85.1]}
    assert "] is below 0: there is no gap" in verdict(check, below)[1]
    assert "] is below 0: there is no gap" in verdict(check, {**below, "gn": [99.0]})[1]


@pytest.mark.parametrize(
    ("check", "values", "intervals", "expected"),
    [
        ("each(t) < 2", {"a": [1.0, 1.9], "b": [1.5]}, {}, "holds"),
        ("each(t) < 2", {"a": [1.0, 1.9], "b": [1.5]}, {"a": [(0.9, 1.1), (1.8, 2.1)]}, "undetermined"),
        ("each(t) < 2", {"a": [1.0, 1.9], "b": [1.5]}, {"a": [(0.9, 1.1), (1.8, math.inf)]}, "undetermined"),
        ("each(t) < 2", {"a": [1.0, 2.1], "b": [1.5]}, {}, "undetermined"),  # its mean is below, one seed is not
        ("each(t) < 2", {"a": [2.3, 2.1], "b": [1.5]}, {}, "fails"),
        ("each(t) < 2", {"a": [2.3, 2.1], "b": [1.5]}, {"a": [(2.2, 2.4), (1.9, 2.2)]}, "undetermined"),
        ("each(t) < 2", {"a": [2.3, 2.1], "b": [1.5]}, {"a": [(2.2, 2.4), (2.01, 2.2)]}, "fails"),
        ("each(t) < 2", {"a": [2.0, 2.0], "b": [1.5]}, {}, "fails"),
        ("each(t) < 2", {"a": [2.3], "b": [1.5]}, {"a": [(2.2, 2.4)]}, "undetermined"),  # one seed may be chance
        ("each(t) > 2", {"a": [2.1], "b": [2.5]}, {"a": [(2.01, 2.2)]}, "holds"),
        ("each(t) > 2", {"a": [2.1], "b": [2.5]}, {"a": [(1.99, 2.2)]}, "undetermined"),
        ("each(t) > 2", {"a": [1.1, 1.2], "b": [2.5]}, {}, "fails"),
        ("each(t) < 2", {"a": [math.nan, 1.0], "b": [1.5]}, {}, "undetermined"),
        ("each(t) < 2", {"a": [math.nan, 1.0], "b": [2.5, 2.4]}, {}, "fails"),
        ("each(t, u) < 2", {"a": [1.0], "b": [1.5]}, {}, "undetermined"),
        ("each(t, u) < 2", {"a": [1.0], "b": [1.5], "c": [1.2]}, {}, "holds"),
    ],
)
def test_verdicts_on_each_run_of_tables(check, values, intervals, expected):
    assert verdict(check, values, "tail_index", intervals=intervals)[0] == expected


def test_the_evidence_on_tables_names_the_largest_and_what_is_missing():
    values = {"a": [1.0, 1.9], "b": [1.5], "c": [2.5, 2.5]}
    found = verdict("each(t) < 2", values, "tail_index", intervals={"b": [(1.4, 1.66)]})[1]
    assert found == "each(t) < 2: 2 runs, largest 1.5 (b, its seeds' intervals up to 1.66)"
    assert verdict("each(t, u) < 2", values)[1] == "each(t, u) < 2: 3 runs, largest 2.5 (c); 1 are not: c"
    many = {"t": (tuple((f"r{place}", place) for place in range(9)),)}
    assert verdict("each(t) < 2", {}, rows=many)[1] == "not run: r0, r1, r2, r3, … (9 runs)"


UP, DOWN, FLAT, SAME = [1.0, 1.1, 1.2], [1.2, 1.1, 1.0], [1.1, 1.2, 1.0], [1.0, 1.0, 1.0]


def trend(shapes, seeds=3, spread=0.01):
    """The verdict on a trend: a row of three runs for each shape, with seeds around each of its three values."""
    rows = tuple(tuple((f"r{row}-w{width}", width) for width in (4, 8, 16)) for row in range(len(shapes)))
    values = {
        run: [level + spread * seed for seed in range(seeds)]
        for row, shape in zip(rows, shapes, strict=True) for (run, _), level in zip(row, shape, strict=True)
    }  # fmt: skip
    return verdict("trend(t)", values, "tail_index", rows={"t": rows})


@pytest.mark.parametrize(
    ("shapes", "seeds", "expected", "evidence"),
    [
        ([UP, UP], 3, "holds", "2 rows: + in 2, − in 0, not significant in 0 (Holm p < 0.05)"),
        ([UP, DOWN], 3, "holds", "+ in 1, − in 1, not significant in 0"),
        ([UP, FLAT], 3, "undetermined", "+ in 1, − in 0, not significant in 1"),
        ([FLAT, FLAT], 3, "undetermined", "+ in 0, − in 0, not significant in 2"),
        ([SAME], 3, "undetermined", "not significant in 1"),
        # Of three values no order is significant: that says nothing.
        ([UP, FLAT], 1, "undetermined", "+ in 0, − in 0, not significant in 0, too few values in 2"),
        # A perfect order of six values has p = 2·(2!)³/6! = 0.022, significant twice but not thrice.
        ([UP, UP], 2, "holds", "+ in 2"),
        ([UP, UP, UP], 2, "undetermined", "too few values in 3"),
    ],
)
def test_verdicts_on_trends(shapes, seeds, expected, evidence):
    found = trend(shapes, seeds, spread=0.0 if shapes == [SAME] else 0.01)
    assert found[0] == expected
    assert evidence in found[1]


def test_seeds_without_a_number_are_left_out_of_a_trend():
    rows = {"t": (tuple((run, width) for run, width in (("a", 4), ("b", 8), ("c", 16))),)}
    values = {"a": [1.0, 1.01, 1.02], "b": [1.1, math.nan, 1.11], "c": [1.2, 1.21, 1.22]}
    found, evidence = verdict("trend(t)", values, rows=rows)
    assert found == "holds"
    assert evidence.endswith("; 1 of 9 values are no numbers and left out")


def test_a_part_that_is_not_at_this_scale_keeps_a_claim_from_holding():
    values = Values(seeded({"a": [90.0, 90.01, 90.02], "b": [80.0, 80.01, 80.02]}))
    for check, expected in (("a > b", "holds"), ("a > b and c > z", "undetermined"), ("b > a", "fails"),
                            ("b > a and c > z", "fails")):  # fmt: skip
        found, evidence = judge_claim(claim(check).at_scale({"a", "b"}, {}), values)
        assert found == expected
        assert evidence.endswith("; not at this scale: c > z") == ("z" in check)
    many = claim("a > b and c > a and c > z and z > b").at_scale({"a", "b"}, {})
    assert judge_claim(many, values)[1].endswith("; not at this scale: 3 of the claim's 4 parts")


def frames():
    """Runs, histories and measures of a paper p, and of another one that nothing may depend on."""
    runs = runs_frame({"gn": [1.0, 1.1], "lb": [2.0, 2.1], "sb": [0.0, 0.1]})
    runs["best_test_accuracy"] = [89.0, 89.1, 86.0, 86.1, 90.0, 90.1]
    histories = pd.concat(
        history(run, [1, 100], [norm + seed / 100, 1.0], seed)
        for run, norm in (("gn", 1.1), ("lb", 9.0), ("sb", 1.0)) for seed in (0, 1)
    )  # fmt: skip
    measures = measured(runs_frame({"a": [1.0, 1.1], "b": [5.0, 5.1]}), flatness=lambda run: run.test_accuracy)
    return [
        pd.concat([frame, frame.assign(paper="q", **other)])
        for frame, other in ((runs, {"test_accuracy": 50.0}), (histories, {}), (measures, {"value": 9.0}))
    ]


def history(run, steps, norms, seed=0):
    return pd.DataFrame({"paper": "p", "run": run, "seed": seed, "step": steps, "micro_batch_norm2": norms})


def test_claims_are_judged_by_their_own_metric_and_written():
    claims = [
        claim("gap(gn) >= 0.5 and gap(uj) <= 0.3", "best_test_accuracy", id="best"), claim("gn < lb", id="final"),
        claim("gn < lb", "early_norm_ratio", id="early"), claim("a < b", "flatness", id="flat"),
        claim("spearman(gn, lb) > 0", id="rank"),
    ]  # fmt: skip
    judged = [one.at_scale({"gn", "lb", "sb", "a", "b"}, {}) for one in claims]
    runs, histories, measures = frames()
    found = evaluate_claims(judged, "p", runs, histories, measures)
    assert found.verdict.tolist() == ["undetermined", "holds", "holds", "holds", "undetermined"]
    assert found.evidence[0].endswith("; not at this scale: gap(uj) <= 0.3")
    assert found.evidence[2].startswith("lb - gn = +1.0")
    assert found.evidence[3].startswith("b - a = +4 [")
    assert found.runs.tolist()[0] == "gn uj"
    assert found.compares.tolist() == ["gap", *["difference"] * 3, "spearman"]
    for nothing in (None, measures[:0], measures.assign(quantity="loss_gap")):
        assert evaluate_claims(judged, "p", runs, histories, nothing).evidence[3] == "not measured: b, a"
    text = to_markdown(claims_blocks(found, "here"))
    begun = "Measured: here. Differences in points of test accuracy at the selected step (best); in points"
    assert text.startswith(begun)
    ended = "first tenth of training (early); in flatness [filter norms] of the trained network (flat); with 95 %"
    assert ended in text
    assert "spearman(…) is the rank correlation" in text
    assert "spearman" not in to_markdown(claims_blocks(found[:2], "here"))
    tables = [claim("each(t) < 2 and trend(u)", "tail_index").at_scale((), ROWS)]
    text = to_markdown(claims_blocks(evaluate_claims(tables, "p", runs, histories), "here"))
    assert "About tail index of gradient noise of the trained network. each(…) takes every run" in text
    assert "corrected for the number of rows by Holm's method" in text


def test_early_norms_are_compared_over_the_first_tenth():
    steps = [1, 5, 10, 15, 100]
    histories = pd.concat([
        history("a", steps, [4.0, 9.0, np.nan, 1e9, 1e9]), history("sb", steps, [1.0] * 5),
        history("a", steps, [1.0, 1.0, np.exp(-3.0), 1e9, 1e9], seed=1), history("sb", steps, [1.0] * 5, seed=1),
        history("a", steps, [1.0] * 5, seed=2),  # without its reference
    ])  # fmt: skip
    # By hand: half of ln 4 and of ln 9 (norms are roots), and half of 0, 0 and 3.
    assert early_norm_ratios(histories, "a", "sb") == pytest.approx({0: (np.log(2) + np.log(3)) / 2, 1: 0.5})
    assert early_norm_ratios(histories, "sb", "sb") == {0: 0.0, 1: 0.0}


@pytest.mark.parametrize(
    ("mine", "theirs", "expected"),
    [
        (([30, 60, 90], [np.e, 1e9, 1e9]), ([30, 60, 90], [1.0] * 3), [0.5]),  # no line in the tenth: the first one
        # A run that diverged later is compared over the tenth of the whole length.
        (([1, 5, 12], [np.e, np.e, 9]), ([1, 5, 12, 100], [1.0] * 4), [0.5]),
        (([1, 2], [np.nan] * 2), ([1, 2], [1.0, 1.0]), []),  # nothing was watched
        # A run that died or ended early imitates nothing.
        (([1, 5, 9, 100], [4.0, 0.0, 0.0, 0.0]), ([1, 5, 9, 100], [4.0] * 4), [np.inf]),
        (([1, 2], [4.0, np.nan]), ([1, 2, 100], [4.0] * 3), [np.inf]),
    ],
)
def test_early_norms_survive_what_is_missing(mine, theirs, expected):
    histories = pd.concat([history("a", *mine), history("sb", *theirs)])
    assert list(early_norm_ratios(histories, "a", "sb").values()) == pytest.approx(expected)
