"""The papers' tables: measured numbers beside published ones, gaps, notes, and what readers see."""

import math

import numpy as np
import pandas as pd
import pytest
from frames import CELLS, TABLE, measured, row, runs_frame, table_of

from whysgd.report import tables
from whysgd.report.table import Cell, to_latex, to_markdown


def texts(table) -> list[list[str]]:
    """The texts of a table for readers."""
    return [[cell.text for cell in line] for line in table.rows]


def column(table, head) -> list[str]:
    return [line[table.heads.index(head)] for line in texts(table)]


def test_a_table_has_published_and_measured_side_by_side():
    lines = tables.make_table(TABLE, "p", runs_frame({"a": [90.0, 92.0, 97.0], "b": [81.5]}))
    assert lines.columns.tolist() == tables.COLUMNS
    first, second, third = (line for _, line in lines.iterrows())
    assert (first.measured_mean, first.n, first.most_steps, first.note) == (93.0, 3, 30, "")
    assert first.measured_std == pytest.approx(np.std([90, 92, 97], ddof=1))
    assert (first.difference, second.difference) == pytest.approx((-2.0, 1.5))
    assert math.isnan(second.measured_std)
    assert (third.n, third.note) == (0, "not run")
    shown = tables.presented(lines, "p", "T", "Published: S. Measured: here.", "It holds.")[0]
    assert texts(shown) == [
        ["a", "A", "95.00 ± 0.50", "93.00 ± 3.61", "3", "30", "95.00", "-2.00", ""],
        ["b", "B & co_1", "80.00", "81.50", "1", "30", "83.50", "+1.50", ""],
        ["c", "C", "–", "–", "0", "–", "–", "–", "not run"],
    ]
    not_numbers = [head for head, number in zip(shown.heads, shown.numbers, strict=True) if not number]
    assert not_numbers == ["row", "label", "note"]
    # Measured numbers, and no others, name their run.
    assert [cell for cell in shown.rows[0] if cell.run] == [Cell("93.00 ± 3.61", "p/a", "test_accuracy")]
    assert not any(cell.run for cell in shown.rows[2])
    markdown = to_markdown([shown])
    assert "Published: S. Measured: here." in markdown
    assert markdown.endswith("\n\nIt holds.\n")
    assert "training accuracy" in shown.heads
    assert r"b & B \& co\_1 & 80.00 & 81.50" in to_latex([shown])


def test_what_is_not_as_published_is_compared_by_differences_to_the_baseline():
    table = {**TABLE, "as_published": False}
    lines = tables.make_table(table, "p", runs_frame({"a": [90.0, 92.0, 97.0], "b": [81.5]}))
    assert lines.difference.isna().all()
    assert lines.published_beside.tolist()[1] == -15.0
    assert lines.measured_beside.tolist()[1] == -11.5
    assert lines.published_beside.isna().tolist() == lines.measured_beside.isna().tolist() == [True, False, True]
    (shown,) = tables.presented(lines, "p", "T")
    assert column(shown, "published − baseline") == ["–", "-15.00", "–"]
    assert column(shown, "measured − baseline") == ["–", "-11.50", "–"]
    assert shown.notes[-1] == "The baseline is A."
    assert "difference" not in shown.heads


def test_a_difference_over_shared_seeds_that_is_not_that_of_the_means_is_said():
    runs = runs_frame({"a": [90.0, 92.0, 97.0, 99.0], "b": [80.0, 82.0, 87.0]})
    lines = tables.make_table({**TABLE, "as_published": False}, "p", runs)
    assert lines.measured_beside.tolist()[1] == -10.0
    said = "The baseline is A. Differences are over the seeds that a row shares with it."
    assert tables.presented(lines, "p", "T")[0].notes[-1] == said


def test_a_row_whose_settings_were_edited_says_so_and_is_not_subtracted():
    rows = [row("a", "A", 95.0), row("b", "B", 80.0, edited=True), row("c", "C", edited=True)]
    runs = runs_frame({"a": [90.0], "b": [81.5], "c": [1.0]}, scale="paper")
    lines = tables.make_table(table_of(rows), "p", runs)
    assert lines.difference.isna().tolist() == [False, True, True]
    assert lines.note.tolist() == ["", "settings differ from the published row", ""]


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"scale": "paper"}, ""),
        ({"scale": "paper", "status": "diverged"}, "2 of 2 diverged"),
        ({"stored_copies": 2}, "2 stored copies"),
        ({"older": True}, "2 of 2 trained by older code"),
    ],
)
def test_the_note_says_what_is_special_of_a_run(changes, note):
    lines = tables.make_table(TABLE, "p", runs_frame({"a": [10.0, 10.0]}).assign(**changes))
    assert (lines.note[0], lines.measured_mean[0]) == (note, 10.0)


def test_a_table_with_columns_is_long_in_csv_and_wide_for_readers():
    lines = tables.make_table(CELLS, "p", runs_frame({"a": [90.0, 92.0], "a.y": [93.0], "b": [70.0]}))
    assert lines.columns.tolist() == ["row", "column", *tables.COLUMNS[1:]]
    assert lines.measured_mean[:3].tolist() == [91.0, 93.0, 70.0]
    (shown,) = tables.presented(lines, "p", "T")
    assert shown.heads == ["label", "X", "Y"]
    assert texts(shown) == [["A", "95.00 → 91.00 ± 1.41", "96.00 → 93.00"], ["B", "80.00 → 70.00", "81.00 → –"]]
    assert [cell.run for line in shown.rows for cell in line] == ["", "p/a", "p/a.y", "", "p/b", ""]
    assert "published → measured" in to_markdown([shown])


def gap_of(name):
    return {"from": f"{name}.lb", "to": f"{name}.sb"}


GAPS = table_of(
    [
        row("a.sb", "A", 92.0, column="SB"), row("a.lb", "A", 88.0, column="LB"),
        row("a.gn", "A", 91.0, column="GN", gap=gap_of("a"), published_gap=0.75),
        row("a.uj", "A", 88.4, column="UJ", gap=gap_of("a"), published_gap=0.1, planned=False),
        row("b.sb", "B", 80.0, column="SB"), row("b.lb", "B", 70.0, column="LB"),
        row("b.gn", "B", 78.0, column="GN", gap=gap_of("b"), published_gap=0.8), row(None, "B", column="UJ"),
    ],
    {name: {"label": name.upper()} for name in ("sb", "lb", "gn", "uj")},
)  # fmt: skip
MEASURED = {"a.sb": [90.0, 90.2, 89.8], "a.lb": [86.0, 86.2], "a.gn": [88.0], "b.sb": [80.0], "b.lb": [79.0],
            "b.gn": [81.0]}  # fmt: skip


@pytest.fixture
def lines(tmp_path):
    """The table with gaps as a reader of its CSV gets it."""
    tables.make_table(GAPS, "p", runs_frame(MEASURED)).to_csv(tmp_path / "table.csv", index=False)
    return pd.read_csv(tmp_path / "table.csv")


def test_the_csv_has_the_gaps_of_each_cell(lines):
    assert lines.columns.tolist()[-5:-2] == tables.GAP_COLUMNS
    a, b = lines[lines.row == "a.gn"].iloc[0], lines[lines.row == "b.gn"].iloc[0]
    assert (a.published_gap, a.measured_gap) == (0.75, pytest.approx((88.0 - 86.1) / (90.0 - 86.1)))
    assert (a.gap_resolved, b.gap_resolved, b.measured_gap) == (True, False, 2.0)
    assert lines[lines.row.isin(["a.sb", "a.lb", "b.sb", "b.lb"])].published_gap.isna().all()
    assert (lines.note[3], lines.note[7]) == ("not at this scale", "no such run")


def test_readers_see_the_gaps_below_the_table(lines):
    shown, gaps = tables.presented(lines, "p", "T", finding="It holds.")
    assert column(shown, "UJ") == ["88.40 → –", "n/a"]
    assert gaps.heads == ["label", "GN", "UJ"]
    assert texts(gaps) == [["A", "75 → 49", "10 → –"], ["B", "80 → 200 ?", "n/a"]]
    assert [cell.run for cell in gaps.rows[1]] == ["", "p/b.gn", ""]
    assert gaps.above == ("Gap recovered, in percent of SB − LB: published → measured.",)
    assert gaps.notes[0].startswith("?: SB − LB is not clearly above 0 on these seeds")
    assert gaps.notes[1] == "It holds."
    assert "1 seed (A: GN, B: SB, B: LB, B: GN)" in shown.notes[0]
    assert "“–” is not run at this scale" in shown.notes[0]
    assert shown.above[0].endswith(", at the last step.")
    assert to_latex([shown, gaps]).count(r"\begin{table}") == 2


def test_rows_of_a_wide_table_without_any_record_are_left_out_and_counted():
    rows = [row(f"{label}{column}", label, column=column, planned=label + column == "AX", recorded=False)
            for label in "ABC" for column in "XY"]  # fmt: skip
    columns = {"X": {"label": "X"}, "Y": {"label": "Y"}}
    for accuracies, labels in (({"AX": [90.0]}, ["A"]), ({}, ["A", "B", "C"])):
        lines = tables.make_table(table_of(rows, columns), "p", runs_frame(accuracies or {"Z": [1.0]}))
        (shown,) = tables.presented(lines, "p", "T")
        assert [line[0].text for line in shown.rows] == labels
        assert ("Rows without any record are left out: 2." in shown.notes) == (labels == ["A"])
    # A published number stays.
    means = {"X": 80.0, "Y": None}.items()
    known = [row(f"D{column}", "D", mean, column=column, planned=False, recorded=False) for column, mean in means]
    lines = tables.make_table(table_of([*rows, *known], columns), "p", runs_frame({"AX": [90.0]}))
    assert [line[0].text for line in tables.presented(lines, "p", "T")[0].rows] == ["A", "D"]


def test_a_table_without_columns_has_the_gap_beside_its_numbers():
    rows = [row("big", "Big", 60.0, gap=gap_of("a"), published_gap=-7.0), row("none", "None", 1.0)]
    lines = tables.make_table(table_of(rows), "p", runs_frame({**MEASURED, "big": [82.0], "none": [1.0]}))
    (shown,) = tables.presented(lines, "p", "T")
    assert column(shown, "gap recovered [%]") == ["-700 → -105", ""]
    assert shown.notes[:2] == ("Gap recovered, in percent of SB − LB: published → measured.", "")


def test_rows_can_have_metrics_of_their_own_and_the_table_says_at_which_step():
    runs = runs_frame({"a": [90.0]}).assign(best_test_accuracy=95.0, best_selected_on="validation")
    rows = [row("a", "best", metric="best_test_accuracy"), row("a", "final")]
    lines = tables.make_table(table_of(rows), "p", runs)
    assert lines.measured_mean.tolist() == [95.0, 90.0]
    assert lines.measured_at.tolist() == ["the step selected on the held-out images", "the last step"]
    said = "at the step selected on the held-out images or the last step, as the row says."
    assert tables.headline(lines).endswith(said)
    quantities = [line[3].quantity for line in tables.presented(lines, "p", "T")[0].rows]
    assert quantities == ["best_test_accuracy", "test_accuracy"]
    alone = tables.make_table(table_of(rows[:1]), "p", runs.assign(best_selected_on="test"))
    assert tables.headline(alone).endswith("at the step of highest test accuracy.")


def test_the_setting_names_data_networks_and_records():
    runs = runs_frame({"a": [90.0]})
    assert tables.setting_of(runs) == "scale mini: digits (5 training and 6 test images), m, on cpu"
    assert tables.setting_of(runs[:0]) == "nothing measured"
    held_out = runs.assign(train_images=410, held_out_images=102, test_images=1285)
    both = pd.concat([held_out, runs, runs.assign(dataset="mnist")])
    digits = "digits (5 training and 6 test images or 410 training, 102 held-out and 1,285 test images)"
    said = f"scale mini: {digits}, mnist (5 training and 6 test images), m"
    assert tables.setting_of(both, device=False) == said
    models = runs_frame({"a": [0.0] * 5}).assign(model=[f"fc_d2_w{4 * width}" for width in (8, 2, 16, 4, 1)])
    assert "fc_d2_w4 to fc_d2_w64 (5 networks)" in tables.setting_of(models)
    recorded = runs.assign(source="records", older=True)
    measures = measured(recorded, flatness=1.0).assign(older=True)
    old = " (1 of 1 runs trained by older code) (1 of 1 runs measured by older code)"
    assert tables.setting_of(recorded, measures=measures).startswith(f"scale mini, from records{old}: digits")


WIDTHS = (4, 8)
GRID = table_of(
    [row(f"d{depth}-w{width}", f"depth {depth}", column=f"width {width}", metric="tail_index")
     for depth in (2, 4) for width in WIDTHS],
    {str(width): {"label": f"width {width}"} for width in WIDTHS},
    {"rows": {"depth": [2, 4, 8]}, "columns": {"width": [4, 8, 16]}},
)  # fmt: skip
RUNS = runs_frame({cell["run"]: [90.0, 91.0] for cell in GRID["rows"]})


def test_a_grid_of_a_measured_quantity_says_what_is_left_out():
    lines = tables.make_table(GRID, "p", RUNS, measured(RUNS, tail_index=lambda run: 1.34 + run.seed / 500))
    assert lines.columns.tolist() == ["row", "column", *tables.COLUMNS[1:]]
    assert (lines.measured_mean[0], lines.n[0], lines.note[0]) == (
        pytest.approx(1.341),
        2,
        "4 of the grid's 9 cells",
    )
    (shown,) = tables.presented(lines, "p", "T")
    assert texts(shown)[0] == ["depth 2", "1.341 ± 0.001", "1.341 ± 0.001"]  # no percent, nothing published
    assert shown.rows[1][2] == Cell("1.341 ± 0.001", "p/d4-w8", "tail_index")
    said = "Tail index of gradient noise of the trained network, mean ± standard deviation over seeds."
    assert shown.above == (said,)
    assert shown.notes[0] == "Notes: 2 seeds; 4 of the grid's 9 cells; 30 steps."


def test_steps_that_differ_are_a_range():
    runs = RUNS_OF_CELLS.assign(steps=[30, 1040] * 4)
    assert tables.remarks(tables.make_table(CELLS, "p", runs)).endswith("; 30 to 1,040 steps.")
    (shown,) = tables.presented(tables.make_table(TABLE, "p", runs), "p", "T")
    assert column(shown, "steps") == ["30 to 1,040", "30 to 1,040", "–"]


RUNS_OF_CELLS = runs_frame({cell["run"]: [90.0, 91.0] for cell in CELLS["rows"]})


def test_what_is_not_measured_or_has_no_number_is_said():
    gone = tables.make_table(GRID, "p", RUNS)
    assert gone.measured_mean.isna().all()
    assert gone.note[0] == "not measured; 4 of the grid's 9 cells"
    lame = measured(RUNS, tail_index=lambda run: math.nan if run.seed else 1.5).assign(older=True)
    line = tables.make_table(GRID, "p", RUNS, lame).iloc[0]
    assert (line.n, line.measured_mean) == (1, 1.5)
    assert line.note.startswith("no number for 1 of 2; 2 of 2 measured by older code; ")
    unplanned = table_of([row("a", "A", planned=False), row("b", "B", planned=False, recorded=False)])
    assert tables.make_table(unplanned, "p", RUNS).note.tolist() == ["not at this scale", "no record of it"]
