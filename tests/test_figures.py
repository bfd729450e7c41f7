"""Figures of tables: what each needs, and what is drawn of a table's rows."""

import re
import runpy
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, config_of, make_dataset, one_line
from drawing import CELLS, GRID, TABLE, draw, frames_of, histories_of, points_of, row, spoken, table_of, texts_of
from frames import runs_frame
from matplotlib.text import Text
from PIL import Image

from whysgd.data.build_store import build_store
from whysgd.report import draw as drawing
from whysgd.report.augmentation import plot_augmentation
from whysgd.report.baselines import differences
from whysgd.report.draw import draw_figure, read_frames, read_points
from whysgd.report.figures import _steps, curves
from whysgd.report.statistics import difference, rank_correlation
from whysgd.report.style import NARROW, SMALL, TEXT, TITLE, WIDE, begun, joined, save_figure
from whysgd.study.figures import CONDITIONS, FIGURES, caption, needs
from whysgd.study.spec import StoredCopies
from whysgd.study.workflow import Study

FRAMES = frames_of(TABLE)


def case(figure) -> tuple[dict, dict]:
    """A table that a figure can be drawn of, with its frames."""
    return (GRID, frames_of(GRID)) if "grid" in needs(figure) else (TABLE, FRAMES)


@pytest.mark.parametrize("figure", FIGURES)
def test_every_figure_is_drawn_alike_each_time_and_says_what_it_shows(figure, tmp_path):
    table, frames = case(figure)
    for name in ("first", "second"):
        drawn = draw_figure(figure, table, frames)
        save_figure(drawn, tmp_path / f"{name}.svg", tmp_path / f"{name}.png")
    text = (tmp_path / "first.svg").read_text()
    assert text == (tmp_path / "second.svg").read_text()
    assert "scale mini: digits" in text
    assert "seed" in text
    title = spoken(drawn)
    assert title != table["title"]
    assert drawn.get_label().startswith(f"{title}. ")
    assert re.search(r"\d", drawn.get_label().removeprefix(title))
    assert f"<title>{title.replace('<', '&lt;')}</title>" in text
    with Image.open(tmp_path / "first.png") as image:
        assert image.info["Description"] == drawn.get_label()
        assert image.width * 96 / image.info["dpi"][0] in (pytest.approx(720, abs=1), pytest.approx(1100, abs=1))
    assert drawn.get_figwidth() in (NARROW, WIDE)
    assert {part.get_fontsize() for part in drawn.findobj(Text) if part.get_text()} <= {TITLE, TEXT, SMALL}
    assert caption(figure).endswith(".")
    with one_line("T: no run of the table is made at this scale"):
        draw_figure(figure, {**table, "rows": [{**line, "planned": False} for line in table["rows"]]}, frames)


@pytest.mark.parametrize("figure", ["comparison", "width", "landscape"])
def test_the_script_draws_from_the_files_of_a_job(figure, tmp_path):
    table, frames = case(figure)
    inputs = {}
    for need in {"runs", *needs(figure)} - {*CONDITIONS}:
        file = tmp_path / f"{need}.csv"
        frames[need].to_csv(file, index=False)
        inputs[need] = [str(file)] if need == "line" else str(file)
    outputs = [tmp_path / "f.svg", tmp_path / "f.png"]
    params = SimpleNamespace(table={**table, "colours": None}, colours=table["colours"])
    job = SimpleNamespace(log=[tmp_path / "log"], input=inputs, output=outputs, params=params,
                          wildcards=SimpleNamespace(figure=figure))  # fmt: skip
    runpy.run_path(str(ROOT / "workflow_scripts/plot_figure.py"), {"snakemake": job}, "__main__")
    save_figure(draw_figure(figure, table, frames), tmp_path / "same.svg")
    assert (tmp_path / "f.svg").read_text() == (tmp_path / "same.svg").read_text()


def test_logs_and_landscapes_come_from_runs_or_from_records(monkeypatch, tmp_path):
    FRAMES["runs"].to_csv(tmp_path / "runs.csv", index=False)
    monkeypatch.setattr(drawing, "read_histories", lambda metrics, logs: pd.DataFrame({"from": [*metrics, *logs]}))
    monkeypatch.setattr(drawing, "unpacked", lambda file, part: pd.DataFrame({"from": [f"{part} of {file}"]}))
    own = {"runs": tmp_path / "runs.csv", "layers": ["l.csv"], "metrics": ["m.json"]}
    assert read_frames("layer_norms", own)["layers"]["from"].tolist() == ["m.json", "l.csv"]
    recorded = {**own, "layers": ["a.json", "b.json"], "line": ["c.json"]}
    assert read_frames("layer_norms", recorded)["layers"]["from"].tolist() == ["layers of a.json", "layers of b.json"]
    assert read_frames("landscape", recorded)["line"]["from"].tolist() == ["line of c.json"]


@pytest.mark.parametrize(("measures", "lost"), [(None, set()), ([], {"measures", "line", "plane", "grid"})])
def test_a_job_reads_what_its_figure_needs_and_what_is_not_measured_is_not_drawn(measures, lost):
    tables = {"novack2023": None, "iyer2023": ["explore"], "simsekli2019": ["mnist", "iterations"]}
    study = Study(config_of({} if measures is None else {"measures": measures}, geiping2022=["main"], **tables))
    drawn = [(paper, table, figure) for paper, tables in study.tables.items() for table in tables
             for figure in study.figures(paper, table)]  # fmt: skip
    for job in drawn:
        assert study.figure_inputs(*job).keys() - {"metrics"} == {*needs(job[-1])} - {*CONDITIONS}
    assert {figure for *_, figure in drawn} == {figure for figure in FIGURES if lost.isdisjoint(needs(figure))}


def test_parts_of_landscapes_are_read_and_damaged_ones_named(tmp_path):
    for run, part in points_of(("a", "b")).groupby("run"):
        part.to_csv(tmp_path / f"{run}.csv", index=False)
    points_of(()).to_csv(tmp_path / "diverged.csv", index=False)
    frame = read_points([tmp_path / f"{name}.csv" for name in ("a", "diverged", "b")])
    pd.testing.assert_frame_equal(frame, points_of(("a", "b")))
    assert read_points([tmp_path / "diverged.csv"]).empty
    for content in ("", "x,y\n1,2\n"):
        (tmp_path / "bad.csv").write_text(content)
        with one_line(str(tmp_path / "bad.csv")):
            read_points([tmp_path / "bad.csv"])
    with one_line("no-such"):
        read_points([tmp_path / "no-such.csv"])


def test_a_figure_may_lie_outside_of_the_package(monkeypatch, tmp_path):
    code = "from other import x\nNEEDS = ('histories',)\nCAPTION = 'Mine.'\n\n\ndef mine(table, frames, setting): ...\n"
    (tmp_path / "own_figures.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    name = "own_figures:mine"
    assert (needs(name), caption(name)) == (("histories",), "Mine.")
    for wrong in ("no_such", "no_such.module:f"):
        with one_line(f"figure = '{wrong}': (allowed: accuracy, comparison|no such module)"):
            needs(wrong)


def lines_of(axis, colour):
    """The lines of a panel in a colour."""
    return [line for line in axis.lines if line.get_color() == colour]


def test_small_multiples_have_each_row_in_its_colour_over_the_others():
    figure = draw("curves")
    axes = [axis for axis in figure.axes if axis.get_visible()]
    assert [axis.get_title(loc="left") for axis in axes] == ["A", "B", "C"]
    for axis, run, level in zip(axes, "abc", (91.0, 81.0, 71.0), strict=True):
        own, *seeds = lines_of(axis, TABLE["colours"][run])
        assert own.get_xdata().tolist() == [1, 3, 5]
        assert own.get_ydata().tolist() == [level] * 3
        assert [line.get_ydata().tolist() for line in seeds] == [[level + apart] * 3 for apart in (-1, 0, 1)]
        assert (len(axis.lines), len(axis.collections)) == (6, 0)
    # A seed that ended early has its line through its own steps.
    known = frames_of(TABLE)["histories"]
    early = known[(known.seed != 1) | (known.step < 5)]
    early = pd.concat([early, known[(known.seed == 1) & (known.step == 5)].assign(step=4)])
    own, other, _ = draw("curves", histories=early).axes
    lines = lines_of(own, TABLE["colours"]["a"])
    assert [line.get_xdata().tolist() for line in lines[1:]] == [[1, 3, 5], [1, 3, 4], [1, 3, 5]]
    # The median is that of all seeds that have not ended: at step 4 it would be that of one.
    grey = other.lines[0]
    assert [line.get_xdata().tolist() for line in (lines[0], grey)] == [[1, 3, 5]] * 2
    assert [line.get_ydata().tolist() for line in (lines[0], grey)] == [[91.0] * 3] * 2
    # Quartiles of few seeds lie where no seed is; of more than five they are a band.
    many = draw("curves", seeds=6).axes[0]
    assert len(many.lines) == 3
    band = many.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (91.25, 93.75)
    assert figure.get_suptitle() == "No other row gets to the median 91.0 % at which A ends"
    # Compared are the rows of a column or, where columns span a gap, the columns of a row.
    across = {name: list(runs) for name, runs in _steps.grid_of({**CELLS, "gap": None}).items()}
    assert across == {"SB": ["A", "B"], "LB": ["A"], "GN": ["A"]}
    assert {name: list(runs) for name, runs in _steps.grid_of(CELLS).items()} == {"A": ["SB", "LB", "GN"], "B": ["SB"]}


def test_runs_that_differ_in_their_passes_have_two_axes():
    known = frames_of(TABLE)["histories"]
    histories = known.assign(epoch=np.where(known.run == "a", known.step / 10, known.step))
    figure = draw("curves", histories=histories)
    assert [axis.get_xlabel() for axis in figure.axes if axis.get_xlabel()] == list(_steps.AXES.values())
    assert lines_of(figure.axes[3], TABLE["colours"]["a"])[0].get_xdata().tolist() == [0.1, 0.3, 0.5]


def test_long_histories_are_thinned_and_keep_their_level():
    long = draw("micro_norm", CELLS, histories=histories_of(["a.lb", "a.gn"], 2, 2000))
    line, *_ = lines_of(long.axes[0], CELLS["colours"]["a.gn"])
    assert len(line.get_xdata()) <= _steps.POINTS
    assert line.get_ydata() == pytest.approx((8 / 9) ** 0.5)
    long.draw_without_rendering()
    assert "1,000" in texts_of(long.axes[0].get_xticklabels())


def test_accuracies_and_norms_are_beside_those_of_their_baseline_at_the_same_seed_and_step():
    figure = draw("accuracy", CELLS)
    axes = [axis for axis in figure.axes if axis.get_visible()]
    assert [axis.get_title(loc="left") for axis in axes] == ["SB", "GN"]
    for axis, run, gap in zip(axes, ("a.sb", "a.gn"), (10.0, -10.0), strict=True):
        # Seeds differ by a point each, their differences by nothing.
        for line in lines_of(axis, CELLS["colours"][run]):
            assert (line.get_xdata().tolist(), line.get_ydata().tolist()) == ([1, 3, 5], [gap] * 3)
    # Of one row, its columns are enough of a name.
    assert spoken(figure) == "GN is clearly more and SB is clearly less accurate than LB"
    norms = draw("micro_norm", CELLS)
    line, *_ = lines_of(norms.axes[0], CELLS["colours"]["a.sb"])
    assert line.get_ydata() == pytest.approx([(9 / 8) ** 0.5] * 5)
    assert norms.get_suptitle() == "A (GN) moves the micro-batch gradient norm most, to 0.94 of LB's"
    assert norms.axes[0].get_ylabel() == "m,\ndigits\nfor A"


@pytest.mark.parametrize("figure", ["accuracy", "micro_norm"])
def test_a_run_that_measures_nothing_has_no_line(figure):
    known = frames_of(CELLS)["histories"]
    empty = known.assign(test_accuracy=np.nan, micro_batch_norm2=np.nan)
    assert not any(lines_of(axis, colour) for axis in draw(figure, CELLS, histories=empty).axes
                   for colour in CELLS["colours"].values())  # fmt: skip
    some = pd.concat([empty[empty.run == "a.sb"], known[known.run != "a.sb"]])
    assert [axis.get_title(loc="left") for axis in draw(figure, CELLS, histories=some).axes] == ["GN"]


def test_a_comparison_has_differences_to_the_baseline_published_and_measured():
    figure = draw("comparison")
    published, measured = figure.axes
    assert texts_of(published.get_yticklabels()) == ["B", "C"]
    assert [line.get_xdata()[0] for line in published.lines if line.get_mfc() == "none"] == [80.0 - 95.0]
    values = {run: dict(enumerate(90.0 + place + 0.1 * np.arange(3))) for place, run in enumerate("abc")}
    texts = texts_of(measured.texts)
    for text, one, run in zip(texts, differences(TABLE, FRAMES["runs"]), "bc", strict=True):
        value, half = difference({run: 1.0, "a": -1.0}, values)
        assert (one.value, one.half) == (pytest.approx(value), pytest.approx(half, abs=1e-6))
        assert text.startswith(f"+{value:.1f} [")
    assert spoken(figure) == "B and C are clearly more accurate than A"
    assert spoken(draw("comparison", seeds=1)) == "With one seed, no difference to A has an interval"
    # C has the one seed that is 92.0, A the mean of 90.0, 90.1 and 90.2.
    runs = FRAMES["runs"]
    figure = draw("comparison", runs=runs[(runs.run != "c") | (runs.seed == 0)])
    assert figure.axes[1].texts[1].get_text() == "+1.9 (one seed)"
    assert spoken(figure) == "B is clearly more accurate than A (C: one seed)"


def test_the_axis_of_a_comparison_has_the_whole_intervals_up_to_100_points():
    runs = FRAMES["runs"]
    for apart in (3.0, 100.0):  # The published difference is large, so the axis is logarithmic.
        accuracies = runs.test_accuracy.mask((runs.run == "b") & (runs.seed == 0), 90.0 - apart)
        figure = draw("comparison", runs=runs.assign(test_accuracy=accuracies))
        axis = figure.axes[1]
        ends = np.clip([x for bars in axis.containers for x in bars[2][0].get_segments()[0][:, 0]], -100, 100)
        low, high = axis.get_xlim()
        assert -100 <= low <= ends.min() < ends.max() <= high <= 100
        arrows = {line.get_marker() for line in axis.lines} & {"<", ">"}
        assert arrows == ({"<", ">"} if apart == 100.0 else set())
        assert axis.get_xscale() == "symlog"
        assert figure.get_supxlabel().endswith("[points, logarithmic beyond ±1]")


def test_rows_are_compared_with_where_their_gap_starts():
    ends = {(one.row["run"], one.baseline["run"]) for one in differences(CELLS, frames_of(CELLS)["runs"])}
    assert ends == {("a.sb", "a.lb"), ("a.gn", "a.lb")}
    # Also with one in another table.
    own = table_of(row("x", "X", gap={"from": "y", "to": "z"}))
    runs = frames_of(table_of(row("x", "X"), row("y", "Y")))["runs"]
    (one,) = differences(own, runs)
    assert (one.baseline["run"], one.value, one.published) == ("y", pytest.approx(-1.0), None)
    assert draw_figure("comparison", own, {"runs": runs}).get_suptitle() == "X is clearly less accurate than y"


ACCURACIES = {"sgd": (65.8, 76.5), "fb": (36.6, 37.8), "long": (62.0, 83.9), "clip": (62.2, 82.7), "reg": (64.8, 76.5)}


@pytest.mark.parametrize("seeds", [1, 2, 3, 10])
def test_who_fits_is_shown_beside_who_generalizes_with_labels_that_cover_nothing(seeds):
    table = table_of(*(row(run, run.upper()) for run in ACCURACIES))
    runs = frames_of(table, seeds)["runs"]
    noise = 0.05 * np.random.default_rng(0).standard_normal((2, len(runs))) * (seeds > 1)
    test, train = np.array([ACCURACIES[run] for run in runs.run]).T + noise
    figure = draw_figure("generalization", table, {"runs": runs.assign(test_accuracy=test, train_accuracy=train)})
    every, closer = figure.axes
    assert texts_of(every.texts) == ["FB"]
    assert sorted(text.get_text() for text in closer.texts) == ["CLIP", "LONG", "REG", "SGD"]
    assert not figure.legends
    renderer = figure.canvas.get_renderer()
    boxes = [Text.get_window_extent(text, renderer) for text in closer.texts]
    assert not any(one.overlaps(other) for index, one in enumerate(boxes) for other in boxes[:index])
    dots = [line for line in closer.lines if line.get_color() == table["colours"]["long"]]
    assert [len(line.get_xdata()) for line in dots] == [seeds, 1]
    said = r"LONG fits better than SGD and generalizes less; REG closes \d\d % of the gap"
    alone = r"With one seed, no difference to SGD has an interval; SGD ends highest, at 65.8 % test accuracy"
    assert re.fullmatch(alone if seeds == 1 else said, spoken(figure))


def test_labels_without_a_place_become_a_legend_of_all_rows():
    lost = FRAMES["runs"].assign(train_accuracy=np.nan)
    assert draw("generalization", runs=lost).get_suptitle() == "No seed has a training and a test accuracy"
    table = table_of(*(row(str(index), "A label too long " * 5 + str(index)) for index in range(5)))
    runs = frames_of(table, 1)["runs"].assign(train_accuracy=50.0, test_accuracy=50.0)
    figure = draw_figure("generalization", table, {"runs": runs})
    assert len(figure.legends[0].get_texts()) == 5
    assert not figure.axes[0].texts


# Training accuracy, test accuracy of each seed, of rows; and what the title says of them.
SGD, UNCLEAR, WORSE = (99, [80, 81, 82]), (90, [79, 81, 83]), (50, [40, 41, 42])
TITLES = [
    # LONG fits no worse, by exactly a point, and REG, 76, lies half-way from 71 to 81.
    ({"SGD": SGD, "LONG": (98, [70, 71, 72]), "REG": (90, [75, 76, 77])},
     "LONG fits as well as SGD and generalizes less; REG closes 50 % of the gap"),
    ({"SGD": SGD, "LONG": (98, [70, 71, 72]), "REG": (90, [79, 81, 83])},
     "LONG fits as well as SGD and generalizes less; REG ends within 2.5 points of SGD"),
    ({"SGD": SGD, "LONG": (98, [76, 77, 78]), "REG": (90, [70, 81, 92])},
     "LONG fits as well as SGD and generalizes less"),
    ({"SGD": SGD, "LONG": (100.5, [70, 71, 72])}, "LONG fits better than SGD and generalizes less"),
    # A row of one seed closes no gap.
    ({"SGD": SGD, "LONG": (98, [70, 71, 72]), "REG": (90, [78])},
     "LONG fits as well as SGD and generalizes less (REG: one seed)"),
    ({"SGD": SGD, "REG": (90, [82, 83, 84]), "FB": WORSE, "LONG": UNCLEAR},
     "REG has a higher test accuracy than SGD, with 83.0 against 81.0 %"),
    ({"SGD": SGD, "A": (90, [82, 83, 84]), "B": (90, [83, 84, 85]), "C": (90, [83, 84, 85]), "FB": WORSE},
     "3 of 4 rows have a higher test accuracy than SGD, B and C the highest with 84.0 against 81.0 %"),
    ({"SGD": SGD, "A": (90, [82, 83, 84]), "B": (90, [83, 84, 85]), "C": (90, [84, 85, 86]), "D": (90, [99])},
     "All 3 rows have a higher test accuracy than SGD, C the highest with 85.0 against 81.0 % (D: one seed)"),
    ({"SGD": SGD, "FB": WORSE},
     "SGD has the highest test accuracy, 81.0 %; FB ends at 41.0 %"),
    # LONG fits more than a point worse.
    ({"SGD": SGD, "FB": WORSE, "LONG": (97.9, [70, 71, 72]), "CLIP": (99, [60])},
     "SGD has the highest test accuracy, 81.0 %; the others end at 41.0 to 71.0 % (CLIP: one seed)"),
    # A row of one seed is among the others, and none of them is above.
    ({"SGD": SGD, "FB": WORSE, "CLIP": (99, [75])},
     "SGD has the highest test accuracy, 81.0 %; the others end at 41.0 to 75.0 % (CLIP: one seed)"),
    ({"SGD": SGD, "FB": WORSE, "CLIP": (99, [85])},
     "On the test images, FB is clearly less accurate than SGD (CLIP: one seed)"),
    ({"SGD": SGD, "FB": WORSE, "LONG": UNCLEAR}, "On the test images, FB is clearly less accurate than SGD"),
    ({"SGD": SGD, "LONG": UNCLEAR}, "On the test images, LONG is not clearly more or less accurate than SGD"),
    ({"SGD": (99, [80]), "REG": (90, [82, 83, 84])},
     "With one seed, no difference to SGD has an interval; REG ends highest, at 83.0 % test accuracy"),
    ({"SGD": SGD}, "SGD ends at 81.0 % test accuracy"),
]  # fmt: skip


@pytest.mark.parametrize(("rows", "title"), TITLES)
def test_the_title_says_who_generalizes_and_sets_rows_of_one_seed_apart(rows, title):
    table = table_of(*(row(name.lower(), name) for name in rows))
    runs = runs_frame({name.lower(): test for name, (_, test) in rows.items()})
    fitted = {name.lower(): float(train) for name, (train, _) in rows.items()}
    assert spoken(draw("generalization", table, runs=runs.assign(train_accuracy=runs.run.map(fitted)))) == title


def test_rows_that_get_to_the_level_at_the_same_step_tie():
    known = frames_of(TABLE)["histories"]
    both = known.assign(test_accuracy=known.test_accuracy.mask((known.run != "a") & (known.test_accuracy > 0), 95.0))
    level = "get to the median 91.0 % at which A ends"
    assert spoken(draw("curves", histories=both)) == f"B and C {level}, by step 1"
    later = both[(both.run != "b") | (both.step > 1)]
    assert spoken(draw("curves", histories=later)) == f"B and C {level}, C first, by step 1"


def test_names_are_joined_and_whole_tables_counted_as_all():
    assert [joined(list("ABC"[:count]), 3) for count in range(4)] == ["no row", "A", "A and B", "all 3 rows"]
    assert (joined(list("ABC"), 4), joined(list("ABC"))) == ("3 of 4 rows", "3 rows")
    assert (begun("all 3 rows tie"), begun("almost ties")) == ("All 3 rows tie", "almost ties")


@pytest.mark.parametrize("seeds", [1, 3, 50])
def test_strips_have_every_seed_the_median_and_the_trend(seeds):
    figure = draw("strips", seeds=seeds)
    sharpness, accuracy = figure.axes
    assert (sharpness.get_xlabel(), accuracy.get_xlabel()) == ("Keskar sharpness [%]", "test accuracy [%]")
    assert texts_of(sharpness.get_yticklabels()) == ["A", "B", "C"]
    medians = [float(text.get_text()) for text in accuracy.texts]
    assert medians == pytest.approx([90 + place + 0.05 * (seeds - 1) for place in range(3)], abs=0.06)
    assert [len(line.get_xdata()) for line in accuracy.lines] == [seeds] * 3
    values = [90 + place + 0.1 * seed for place in range(3) for seed in range(seeds)]
    rho, p = rank_correlation(np.repeat(range(3), seeds), values)
    assert accuracy.get_title(loc="left").startswith(f"Spearman's ρ = +{rho:.2f}, p ")
    word = "rises" if p <= 0.05 else "shows no trend"
    assert spoken(figure) == f"From A to C, sharpness shows no trend and test accuracy {word}"


def test_wide_ranges_are_logarithmic_and_what_is_not_there_is_said():
    runs, measures = FRAMES["runs"].copy(), FRAMES["measures"][1:]
    runs.loc[0, "status"] = "diverged"
    axes = draw("strips", runs=runs[runs.run != "b"], measures=measures).axes
    assert [axis.get_xscale() for axis in axes] == ["log", "linear"]
    labels = texts_of(axes[0].get_yticklabels())
    assert labels == ["A\n1 diverged", "B\nnot run", "C"]
    bare = draw("strips", runs=runs, measures=measures[:0])
    assert texts_of(bare.axes[0].texts) == ["not measured"]
    assert "sharpness was not measured" in spoken(bare)


@pytest.mark.parametrize(("channels", "copies", "clean"), [(1, 2, False), (3, 12, True)])
def test_the_augmentation_grid_shows_each_class_and_its_stored_versions(tmp_path, channels, copies, clean):
    dataset = make_dataset(channels=channels)
    plan = StoredCopies(copies=copies, crop_padding=2, flip=True, clean_first=clean)
    store = build_store(dataset, plan, tmp_path / "s.lmdb")
    figure = plot_augmentation(dataset, store)
    shown = min(copies, 10)
    assert len(figure.axes) == 3 * (1 + shown)
    number = int(np.flatnonzero(dataset.train.labels == 1)[0])
    drawn = [np.asarray(axis.images[0].get_array()) for axis in figure.axes[1 + shown : 2 * (1 + shown)]]
    expected = [dataset.train.images[number], *(store.take(np.array([number + 23 * c]))[0] for c in range(shown))]
    for picture, image in zip(drawn, expected, strict=True):
        assert np.array_equal(picture, image.transpose(1, 2, 0) if channels == 3 else image[0])
    assert figure.axes[1].get_title() == ("clean" if clean else "0")


def test_the_title_of_curves_compares_the_rows_of_one_line_of_panels():
    """Each column has a line of its own, and c, which is above all, is not in the first one that has several."""
    rows = [row("c", "C", column="X"), row("a", "A", column="Y"), row("b", "B", column="Y")]
    ends = [(run, seed, 10, end) for run, end in (("c", 99.0), ("a", 70.0), ("b", 60.0)) for seed in (0, 1)]
    histories = pd.DataFrame(ends, columns=["run", "seed", "step", "test_accuracy"])
    title, _ = curves.message(table_of(*rows), {"histories": histories})
    assert title == "B (Y) does not get to the median 70.0 % at which A (Y) ends"
