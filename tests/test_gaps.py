"""Gaps recovered: their number, interval and verdicts, and the tables that show them."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from test_reporting import frame, row

from whysgd.errors import UserError
from whysgd.report import page, tables
from whysgd.report.claims import claims_to_markdown, evaluate_check, evaluate_claims
from whysgd.report.early import early_norm_ratios
from whysgd.report.intervals import recovered, welch
from whysgd.study.checks import Comparison, GapComparison, parse_check

ENDS = {"from": "lb", "to": "sb"}
# 3, 4 and 2 seeds: means 88.5, 86 and 90, so 2.5 of 4 points.
VALUES = {"gn": [88.0, 88.5, 89.0], "lb": [85.5, 86.5, 86.0, 86.0], "sb": [89.8, 90.2]}


def test_a_gap_is_a_share_of_the_difference_between_its_ends():
    gap = recovered("gn", ENDS, VALUES)
    assert gap.value == pytest.approx(2.5 / 4)
    assert gap.resolved
    assert gap.low < gap.value < gap.high


def test_fiellers_interval_is_where_the_linear_difference_is_not_rejected():
    """Where a − ρ·b touches the edge of its own interval; t's degrees of freedom are those at the measured share."""
    gap = recovered("gn", ENDS, VALUES)
    n = {run: len(values) for run, values in VALUES.items()}
    s2 = {run: np.var(values, ddof=1) for run, values in VALUES.items()}

    def parts(share):
        return [s2["gn"] / n["gn"], (1 - share) ** 2 * s2["lb"] / n["lb"], share**2 * s2["sb"] / n["sb"]]

    here = parts(gap.value)
    degrees = sum(here) ** 2 / sum(p**2 / (n[run] - 1) for p, run in zip(here, ("gn", "lb", "sb"), strict=True))
    t = stats.t.ppf(0.975, degrees)
    for share in (gap.low, gap.high):
        difference = 2.5 - share * 4
        assert abs(difference) == pytest.approx(t * sum(parts(share)) ** 0.5)


def test_fiellers_interval_covers_the_truth_as_often_as_it_says():
    """Many studies of 4, 5 and 6 seeds with a true gap of 0.6 and an uncertain denominator."""
    generator = np.random.default_rng(0)
    inside, studies = 0, 1500
    for _ in range(studies):
        drawn = {
            "gn": generator.normal(87.4, 1.0, 4), "lb": generator.normal(85.0, 1.0, 5), "sb": generator.normal(89.0, 1.0, 6)
        }  # fmt: skip
        gap = recovered("gn", ENDS, {run: values.tolist() for run, values in drawn.items()})
        inside += gap.low is None or gap.low <= 0.6 <= gap.high
    assert 0.93 < inside / studies < 0.975


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"gn": [88.0], "lb": [86.0], "sb": [90.0]}, (0.5, None, None, False)),  # one seed has no interval
        ({"gn": [88.0], "lb": [86.0, 86.0], "sb": [90.0, 90.0]}, (0.5, None, None, True)),
        ({"gn": [88.0, 88.0], "lb": [86.0, 86.0], "sb": [90.0, 90.0]}, (0.5, 0.5, 0.5, True)),  # nothing varies
        ({"gn": [88.0, 88.0], "lb": [86.0, 86.0], "sb": [86.0, 86.0]}, (None, None, None, False)),  # no denominator
        ({"gn": [88.0, 88.0], "lb": [90.0, 90.0], "sb": [86.0, 86.0]}, (0.5, 0.5, 0.5, False)),  # a negative one
        ({"gn": [88.0, 89.0], "lb": [80.0, 90.0], "sb": [82.0, 92.0]}, (1.75, None, None, False)),  # not bounded
    ],
)
def test_a_gap_that_says_nothing_is_not_resolved(values, expected):
    gap = recovered("gn", ENDS, values)
    assert (gap.value, gap.low, gap.high, gap.resolved) == expected


def test_a_gap_needs_all_three_runs():
    assert recovered("gn", ENDS, {"gn": [1.0], "lb": [0.0]}) is None


def test_gaps_are_read():
    assert parse_check("gap(a.b-c) >= 0.6 and a > b and gap(a) < 1") == [
        GapComparison("a.b-c", 0.6, 1, False), Comparison({"a": 1, "b": -1}, 0.0, True), GapComparison("a", 1.0, -1, True)
    ]  # fmt: skip
    assert GapComparison("a", 0.6, 1, False).comparison(ENDS).runs == pytest.approx({"a": 1, "lb": -0.4, "sb": -0.6})
    assert GapComparison("a", 1.0, -1, True).comparison(ENDS) == Comparison({"a": -1, "sb": 1}, 0.0, True)


@pytest.mark.parametrize(
    "check", ["gap(a)", "gap(a) >= b", "0.6 <= gap(a)", "gap(a, b) >= 1", "gap() > 1", "gap(a) = 1"]
)
def test_gaps_that_are_none_are_refused(check):
    with pytest.raises(UserError, match="check = "):
        parse_check(check)


SURE = {"gn": [88.9, 89.1], "lb": [85.9, 86.1], "sb": [89.9, 90.1]}  # 75 %


@pytest.mark.parametrize(
    ("check", "values", "verdict"),
    [
        ("gap(gn) >= 0.5", SURE, "holds"),
        ("gap(gn) <= 0.5", SURE, "fails"),
        ("gap(gn) >= 0.75", SURE, "undetermined"),
        ("gap(gn) <= 1", SURE, "holds"),
        ("gap(gn) > 0", SURE, "holds"),
        ("gap(gn) >= 0.5 and gap(gn) <= 0.6", SURE, "fails"),
        ("gap(gn) >= 0.5", {**SURE, "gn": [89.0]}, "undetermined"),
        ("gap(gn) >= 0.5", {**SURE, "sb": []}, "undetermined"),
    ],
)
def test_verdicts_on_gaps(check, values, verdict):
    assert evaluate_check(check, values, {"gn": ENDS})["verdict"] == verdict


def test_the_evidence_of_a_gap_has_percent_and_the_interval_that_decided():
    evidence = evaluate_check("gap(gn) >= 0.5", SURE, {"gn": ENDS})["evidence"]
    difference, half = welch({"gn": 1.0, "lb": -0.5, "sb": -0.5}, SURE)
    interval = f"[{difference - half:+.2f}, {difference + half:+.2f}]"
    assert evidence == f"gap(gn) = 75 %, claimed 50 %; points over that: +1.00 {interval}"
    evidence = evaluate_check("gap(gn) <= 0.9", SURE, {"gn": ENDS})["evidence"]
    assert evidence.startswith("gap(gn) = 75 %, claimed 90 %; points under that: +0.60 [")


def test_without_a_gap_between_its_ends_nothing_is_determined():
    """The run is clearly above both ends, but small batches are not clearly above large ones."""
    unclear = {"gn": [99.0, 99.1], "lb": [84.0, 90.0], "sb": [85.0, 91.0]}
    for check in ("gap(gn) >= 0.1", "gap(gn) <= 0.1"):
        result = evaluate_check(check, unclear, {"gn": ENDS})
        assert result["verdict"] == "undetermined"
        assert "but sb - lb = +1.00 [" in result["evidence"]
        assert result["evidence"].endswith("is not clearly above 0: there is no gap to recover")
    below = {"gn": [99.0, 99.1], "lb": [90.0, 90.1], "sb": [85.0, 85.1]}
    assert "] is below 0: there is no gap" in evaluate_check("gap(gn) <= 0.1", below, {"gn": ENDS})["evidence"]


def cell(label, column, run, mean, gap=None, published=None, **other):
    return {**row(run, label, mean, column=column), "gap": gap, "published_gap": published, **other}


def gap_of(name):
    return {"from": f"{name}.lb", "to": f"{name}.sb"}


COLUMNS = {name: {"label": name.upper()} for name in ("sb", "lb", "gn", "uj")}
TABLE = {
    "title": "T", "setting": "S", "columns": COLUMNS,
    "rows": [
        cell("A", "SB", "a.sb", 92.0), cell("A", "LB", "a.lb", 88.0), cell("A", "GN", "a.gn", 91.0, gap_of("a"), 0.75),
        cell("A", "UJ", "a.uj", 88.4, gap_of("a"), 0.1, planned=False),
        cell("B", "SB", "b.sb", 80.0), cell("B", "LB", "b.lb", 70.0), cell("B", "GN", "b.gn", 78.0, gap_of("b"), 0.8),
        cell("B", "UJ", None, None),
    ],
}  # fmt: skip
MEASURED = {
    "a.sb": [90.0, 90.2, 89.8],
    "a.lb": [86.0, 86.2],
    "a.gn": [88.0],
    "b.sb": [80.0],
    "b.lb": [79.0],
    "b.gn": [81.0],
}


@pytest.fixture
def lines(tmp_path):
    """The table as a reader of its CSV gets it."""
    made = tables.make_table(TABLE, "p", frame(MEASURED))
    made.to_csv(tmp_path / "table.csv", index=False)
    return pd.read_csv(tmp_path / "table.csv")


def test_the_csv_has_the_gaps_of_each_cell(lines):
    assert lines.columns.tolist()[-6:-1] == tables.GAP_COLUMNS
    assert lines.columns.tolist()[:3] == ["row", "column", "label"]
    a, b = lines[lines.row == "a.gn"].iloc[0], lines[lines.row == "b.gn"].iloc[0]
    assert (a.published_gap, a.measured_gap) == (0.75, pytest.approx((88.0 - 86.1) / (90.0 - 86.1)))
    assert a[["gap_low", "gap_high"]].isna().all()
    assert (a.gap_resolved, b.gap_resolved, b.measured_gap) == (True, False, 2.0)
    assert lines[lines.row.isin(["a.sb", "a.lb", "b.sb", "b.lb"])].published_gap.isna().all()
    assert lines.note.tolist()[3] == "not at this scale"
    assert lines.note.tolist()[7] == "no such run"


def test_readers_see_the_gaps_below_the_table(lines):
    assert tables.formatted(lines).to_numpy().tolist()[0][-1] == "88.40 → –"
    assert tables.formatted(lines).to_numpy().tolist()[1][-1] == "n/a"
    gaps = tables.formatted_gaps(lines)
    assert gaps.columns.tolist() == ["label", "GN", "UJ"]
    assert gaps.to_numpy().tolist() == [["A", "75 → 49", "10 → –"], ["B", "80 → 200 ?", "n/a"]]
    markdown = tables.to_markdown(lines, "T", "S", "M")
    assert "Gap recovered, in percent of SB − LB: published → measured." in markdown
    assert "?: SB − LB is not clearly above 0 on these seeds" in markdown
    assert "1 seed (A: GN, B: SB, B: LB, B: GN)" in markdown
    assert "– is not run at this scale" in markdown
    assert ", at the last step." in markdown
    latex = tables.to_latex(lines, "T", "S", "M")
    assert latex.count(r"\begin{table}") == 2
    assert r"80 $\to$ 200 ?" in latex
    html = page.write_page("t", "s", [{"paper": dict.fromkeys(("paper", "title", "venue", "arxiv"), "x"), "claims": None,
                                      "tables": [{"title": "T", "setting": "S", "table": lines, "figures": []}]}])  # fmt: skip
    assert "75 → 49" in html
    assert "says nothing" in html


def test_a_table_without_columns_has_the_gap_beside_its_numbers():
    rows = [cell("Big", None, "big", 60.0, gap_of("a"), -7.0), cell("None", None, "none", 1.0)]
    lines = tables.make_table(
        {**TABLE, "columns": None, "rows": rows}, "p", frame({**MEASURED, "big": [82.0], "none": [1.0]})
    )
    shown = tables.formatted(lines)
    assert shown["gap recovered [%]"].tolist() == ["-700 → -105", ""]
    assert tables.formatted_gaps(lines) is None
    markdown = tables.to_markdown(lines, "T", "S", "M")
    assert "Gap recovered, in percent" in markdown
    assert "?:" not in markdown
    assert r"-700 $\to$ -105" in tables.to_latex(lines, "T", "S", "M")


def test_rows_can_have_metrics_of_their_own_and_the_table_says_at_which_step():
    runs = frame({"a": [90.0]}).assign(best_test_accuracy=95.0, best_selected_on="validation")
    rows = [{**row("a", "best"), "metric": "best_test_accuracy"}, row("a", "final")]
    lines = tables.make_table({**TABLE, "columns": None, "rows": rows}, "p", runs)
    assert lines.measured_mean.tolist() == [95.0, 90.0]
    assert lines.measured_at.tolist() == ["the step selected on the held-out images", "the last step"]
    assert tables.headline(lines).endswith(
        "at the step selected on the held-out images or the last step, as the row says."
    )
    alone = tables.make_table({**TABLE, "columns": None, "rows": rows[:1]}, "p", runs.assign(best_selected_on="test"))
    assert tables.headline(alone).endswith("at the step of highest test accuracy.")


def test_the_setting_names_held_out_images():
    runs = frame({"a": [90.0]}).assign(train_images=410, held_out_images=102, test_images=1285)
    assert "(410 training, 102 held-out and 1285 test images)" in tables.setting_of(runs)
    both = pd.concat([runs, frame({"b": [1.0]}), frame({"c": [1.0]}).assign(dataset="mnist")])
    assert tables.setting_of(both).startswith(
        "scale mini: digits (5 training and 6 test images or 410 training, 102 held-out and 1285 test images), "
        "mnist (5 training and 6 test images), m"
    )


def history(run, steps, norms, seed=0):
    return pd.DataFrame({"paper": "p", "run": run, "seed": seed, "step": steps, "micro_batch_norm2": norms})


def test_early_norms_are_compared_over_the_first_tenth():
    steps = [1, 5, 10, 15, 100]
    histories = pd.concat([
        history("a", steps, [4.0, 9.0, np.nan, 1e9, 1e9]),
        history("sb", steps, [1.0, 1.0, 1.0, 1.0, 1.0]),
        history("a", steps, [1.0, 1.0, np.exp(-3.0), 1e9, 1e9], seed=1),
        history("sb", steps, [1.0, 1.0, 1.0, 1.0, 1.0], seed=1),
        history("a", steps, [1.0] * 5, seed=2),  # without its reference
    ])  # fmt: skip
    # By hand: half of ln 4 and of ln 9 (norms are roots), and half of 0, 0 and 3.
    assert early_norm_ratios(histories, "a", "sb") == pytest.approx([(np.log(2) + np.log(3)) / 2, 0.5])
    assert early_norm_ratios(histories, "sb", "sb") == [0.0, 0.0]


def test_early_norms_take_one_line_if_there_is_none_and_survive_what_is_missing():
    coarse = pd.concat([history("a", [30, 60, 90], [np.e, 1e9, 1e9]), history("sb", [30, 60, 90], [1.0, 1.0, 1.0])])
    assert early_norm_ratios(coarse, "a", "sb") == pytest.approx([0.5])
    # A run that diverged later is compared over the tenth of the whole length.
    short = pd.concat([history("a", [1, 5, 12], [np.e, np.e, 9]), history("sb", [1, 5, 12, 100], [1.0, 1.0, 1.0, 1.0])])
    assert early_norm_ratios(short, "a", "sb") == pytest.approx([0.5])
    unwatched = pd.concat([history("a", [1, 2], [np.nan] * 2), history("sb", [1, 2], [1.0, 1.0])])
    assert early_norm_ratios(unwatched, "a", "sb") == []


def test_claims_are_judged_by_their_own_metric():
    runs = frame({"gn": [1.0, 1.1], "lb": [2.0, 2.1], "sb": [0.0, 0.1]}).assign(
        best_test_accuracy=lambda r: r.run.map({"gn": 89.0, "lb": 86.0, "sb": 90.0}) + r.seed / 10
    )
    histories = pd.concat([
        history(run, [1, 100], [norm + seed / 100, 1.0], seed)
        for run, norm in (("gn", 1.1), ("lb", 9.0), ("sb", 1.0)) for seed in (0, 1)
    ])  # fmt: skip
    gaps = dict.fromkeys(("gn", "lb"), ENDS)
    claim = {"id": "x", "claim": "C", "check": "c", "left_out": [], "gaps": gaps}
    claims = [
        {
            **claim,
            "id": "best",
            "metric": "best_test_accuracy",
            "judged": "gap(gn) >= 0.5",
            "left_out": ["gap(uj) <= 0.3"],
        },
        {**claim, "id": "final", "metric": "test_accuracy", "judged": "gn < lb"},
        {**claim, "id": "early", "metric": "early_norm_ratio", "judged": "gn < lb"},
    ]
    verdicts = evaluate_claims(claims, "p", runs, histories)
    # The first has a part that is not judged here.
    assert verdicts.verdict.tolist() == ["undetermined", "holds", "holds"]
    assert verdicts.evidence[0].endswith("; not at this scale: gap(uj) <= 0.3")
    assert verdicts.evidence[2].startswith("lb - gn = +1.0")
    markdown = claims_to_markdown(verdicts, "here")
    assert (
        "points of test accuracy at the selected step (best); in points of test accuracy at the last step (final)"
        in markdown
    )
    assert "first tenth of training (early); with 95 % intervals over seeds." in markdown
    assert "metric" not in markdown
    assert "Differences in points of test accuracy at the last step; with" in claims_to_markdown(verdicts[1:2], "here")


def test_a_run_that_died_or_ended_early_imitates_nothing():
    columns = ["run", "seed", "step", "step_loss", "micro_batch_norm2"]
    rows = [("sb", 0, step, 1.0, 4.0) for step in range(1, 101)]
    dead = pd.DataFrame([*rows, *(("a", 0, step, 1.0, 4.0 * (step < 5)) for step in range(1, 101))], columns=columns)
    assert early_norm_ratios(dead, "a", "sb") == [np.inf]
    short = pd.DataFrame([*rows, ("a", 0, 1, 1.0, 4.0), ("a", 0, 2, np.nan, np.nan)], columns=columns)
    assert early_norm_ratios(short, "a", "sb") == [np.inf]
    result = evaluate_check("a < b", {"a": [0.1, np.inf], "b": [0.3, 0.4]})
    assert result["verdict"] == "undetermined"
    assert "a: has no such number for one of its seeds" in result["evidence"]


def test_a_part_that_is_not_at_this_scale_keeps_a_claim_from_holding():
    runs = pd.DataFrame([("p", run, seed, value + seed / 100) for run, value in (("a", 90), ("b", 80)) for seed in (0, 1, 2)],
                        columns=["paper", "run", "seed", "test_accuracy"])  # fmt: skip
    claim = {"id": "x", "claim": "y", "check": "-", "metric": "test_accuracy", "gaps": {}, "left_out": []}
    verdicts = [
        evaluate_claims([{**claim, "judged": judged, "left_out": left_out}], "p", runs, runs).verdict.item()
        for judged in ("a > b", "b > a")
        for left_out in ([], ["c > d"])
    ]
    assert verdicts == ["holds", "undetermined", "fails", "fails"]
