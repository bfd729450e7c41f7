"""Figures of tables: what each needs, and what is drawn of a table's rows."""

import runpy
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from conftest import make_dataset
from drawing import CELLS, GRID, TABLE, draw, frames_of, histories_of, points_of, row, table_of

from whysgd.data.build_store import build_store
from whysgd.errors import UserError
from whysgd.report import draw as drawing
from whysgd.report.augmentation import plot_augmentation
from whysgd.report.draw import draw_figure, read_frames, read_points
from whysgd.report.figures import _steps, histograms
from whysgd.report.style import save_figure
from whysgd.report.tables import make_table
from whysgd.study.config import load_config
from whysgd.study.figures import FIGURES, caption, needs
from whysgd.study.registry import file_of
from whysgd.study.spec import StoredCopies
from whysgd.study.validation import ROOT
from whysgd.study.workflow import Study

FRAMES = frames_of(TABLE)
FRAMES["table"] = make_table(TABLE, "p", FRAMES["runs"])


def case(figure) -> tuple[dict, dict]:
    """A table that a figure can be drawn of, with its frames."""
    return (GRID, frames_of(GRID)) if "grid" in needs(figure) else (TABLE, FRAMES)


@pytest.mark.parametrize("figure", FIGURES)
def test_every_figure_is_drawn_alike_each_time_and_has_a_caption_and_a_size(figure, tmp_path):
    table, frames = case(figure)
    for name in ("first", "second"):
        save_figure(draw_figure(figure, table, frames), tmp_path / f"{name}.svg", tmp_path / f"{name}.png")
    text = (tmp_path / "first.svg").read_text()
    assert text == (tmp_path / "second.svg").read_text()
    assert "scale mini: digits" in text
    assert (tmp_path / "first.png").read_bytes().startswith(b"\x89PNG")
    assert caption(figure).endswith(".")
    assert "# inches" in file_of("figure", figure).read_text()
    with pytest.raises(UserError, match="T: no run of the table is made at this scale"):
        draw_figure(figure, {**table, "rows": [{**line, "planned": False} for line in table["rows"]]}, frames)


@pytest.mark.parametrize("figure", ["comparison", "width", "landscape"])
def test_the_script_draws_from_the_files_of_a_job(figure, tmp_path):
    table, frames = case(figure)
    inputs = {}
    for need in {"runs", *needs(figure)} - {"grid"}:
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
    study = Study(load_config(settings={} if measures is None else {"measures": measures}))
    drawn = [(paper, table, figure) for paper, tables in study.tables.items() for table in tables
             for figure in study.figures(paper, table)]  # fmt: skip
    for job in drawn:
        assert study.figure_inputs(*job).keys() - {"metrics"} == {*needs(job[-1])} - {"grid"}
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
        with pytest.raises(UserError, match=str(tmp_path / "bad.csv")):
            read_points([tmp_path / "bad.csv"])
    with pytest.raises(UserError, match="no-such"):
        read_points([tmp_path / "no-such.csv"])


def test_a_figure_may_lie_outside_of_the_package(monkeypatch, tmp_path):
    code = "from other import x\nNEEDS = ('histories',)\nCAPTION = 'Mine.'\n\n\ndef mine(table, frames, setting): ...\n"
    (tmp_path / "own_figures.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    name = "own_figures:mine"
    assert (needs(name), caption(name)) == (("histories",), "Mine.")
    for wrong in ("no_such", "no_such.module:f"):
        with pytest.raises(UserError, match=f"figure '{wrong}': (allowed: accuracy, comparison|no such module)"):
            needs(wrong)


def test_curves_have_a_line_for_each_row_or_in_a_table_with_columns_a_panel_for_each():
    loss, _, accuracy = draw("curves").axes
    assert [text.get_text() for text in accuracy.get_legend().get_texts()] == ["A", "B", "C"]
    assert loss.get_xscale() == "log"
    means = [list(line.get_ydata()) for line in accuracy.lines if len(line.get_ydata())]
    assert sorted(means) == [[71.0] * 3, [81.0] * 3, [91.0] * 3]
    axes = draw("curves", CELLS).axes
    assert [axis.get_ylabel() for axis in axes] == [f"test accuracy [%], {name}" for name in ("SB", "LB", "GN")]


def test_a_comparison_has_published_numbers_and_every_seed():
    figure = draw_figure("comparison", TABLE, FRAMES)
    axis = figure.axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["A", "B", "C", "D", "A at its best"]
    drawn = {round(float(x), 6) for line in axis.lines for x in line.get_xdata()}
    assert {95.0, 80.0, 90.0, 90.1, 90.2, 91.1, 92.2, 99.0} <= drawn
    assert figure.get_suptitle().split("\n")[0] == "published: S"
    numbers = pd.DataFrame({"row": [line["run"] for line in CELLS["rows"]], "published_mean": 1.0,
                            "published_std": None, "measured_mean": 2.0})  # fmt: skip
    labels = draw_figure("comparison", CELLS, {**frames_of(CELLS), "table": numbers}).axes[0].get_yticklabels()
    assert [label.get_text() for label in labels][:4] == ["A (SB)", "A (LB)", "A (GN)", "B (SB)"]
    assert len(labels) == 7


def test_panels_of_steps_are_rows_and_lines_are_methods_that_are_run():
    drawn = _steps.panel_lines(CELLS)
    assert {title: list(lines) for title, lines in drawn.items()} == {"A": ["sb", "lb", "gn"], "B": ["sb"]}
    flat = table_of(row("x", "X"), row("y", "Y", planned=False))
    assert _steps.panel_lines(flat) == {"": {"x": {"run": "x", "label": "X"}}}


def test_lines_over_steps_are_means_over_seeds_with_a_band_and_colours_of_methods():
    figure = draw("accuracy", CELLS)
    first, second = figure.axes
    assert [axis.get_title() for axis in figure.axes] == ["A", "B"]
    lines = {line.get_label(): line for line in first.lines}
    assert list(lines) == ["SB", "LB", "GN"]
    assert lines["SB"].get_xdata().tolist() == [1, 3, 5]
    assert lines["SB"].get_ydata().tolist() == [91.0, 91.0, 91.0]
    assert [line.get_color() for line in first.lines] == list(CELLS["colours"].values())
    band = first.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (90.0, 92.0)
    assert [line.get_color() for line in second.lines] == [CELLS["colours"]["sb"]]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["SB", "LB", "GN"]


def test_norms_are_roots_on_a_logarithmic_axis_and_long_histories_are_thinned():
    axis = draw("micro_norm", CELLS).axes[0]
    assert (axis.get_yscale(), axis.get_xscale()) == ("log", "linear")
    # Roots first, then the mean: 3·(1 + 2 + 3)/3.
    assert axis.lines[0].get_ydata().tolist() == [6.0] * 5
    long = draw("micro_norm", CELLS, histories=histories_of(["a.sb"], 1, 2000)).axes[0]
    assert long.get_xscale() == "log"
    assert len(long.lines[0].get_xdata()) <= _steps.POINTS
    assert long.lines[0].get_ydata() == pytest.approx(3.0)


@pytest.mark.parametrize("figure", ["accuracy", "micro_norm"])
def test_a_run_that_measures_nothing_has_no_line(figure):
    known = frames_of(CELLS)["histories"]
    empty = known.assign(test_accuracy=np.nan, micro_batch_norm2=np.nan)
    assert all(not axis.lines for axis in draw(figure, CELLS, histories=empty).axes)
    one = pd.concat([empty[empty.run != "a.gn"], known[known.run == "a.gn"]])
    assert [len(axis.lines) for axis in draw(figure, CELLS, histories=one).axes] == [1, 0]


@pytest.mark.parametrize("seeds", [1, 3, 50])
def test_histograms_have_every_seed_and_the_median(seeds):
    sharpness, accuracy = draw("histograms", seeds=seeds).axes
    assert (sharpness.get_xlabel(), accuracy.get_xlabel()) == ("Keskar sharpness [%]", "test accuracy [%]")
    labels = [text.get_text() for text in sharpness.get_yticklabels()]
    assert labels == [f"{name}\nn = {seeds}" for name in "ABC"]
    medians = [float(text.get_text()) for text in accuracy.texts]
    assert medians == pytest.approx([90 + place + 0.05 * (seeds - 1) for place in range(3)], abs=0.06)
    # Strokes and median, for each row.
    assert [len(part.get_segments()) for part in accuracy.collections] == [seeds, 1] * 3
    tallest = min(bar.get_height() for bar in accuracy.patches)
    assert tallest == pytest.approx(-histograms.TALLEST)


def test_wide_ranges_are_logarithmic_and_what_is_not_there_is_said():
    runs, measures = FRAMES["runs"].copy(), FRAMES["measures"][1:]
    runs.loc[0, "status"] = "diverged"
    axes = draw("histograms", runs=runs[runs.run != "b"], measures=measures).axes
    assert [axis.get_xscale() for axis in axes] == ["log", "linear"]
    labels = [text.get_text() for text in axes[0].get_yticklabels()]
    assert labels == ["A\nn = 2, 1 diverged", "B\nnot run", "C\nn = 3"]
    bare = draw("histograms", runs=runs, measures=measures[:0]).axes[0]
    assert [text.get_text() for text in bare.texts] == ["not measured"]


@pytest.mark.parametrize(("channels", "copies", "clean"), [(1, 2, False), (3, 12, True)])
def test_the_augmentation_grid_shows_each_class_and_its_stored_versions(tmp_path, channels, copies, clean):
    dataset = make_dataset(channels=channels)
    store = build_store(
        dataset, StoredCopies(copies=copies, crop_padding=2, flip=True, clean_first=clean), tmp_path / "s.lmdb"
    )
    figure = plot_augmentation(dataset, store)
    shown = min(copies, 10)
    assert len(figure.axes) == 3 * (1 + shown)
    number = int(np.flatnonzero(dataset.train.labels == 1)[0])
    drawn = [np.asarray(axis.images[0].get_array()) for axis in figure.axes[1 + shown : 2 * (1 + shown)]]
    expected = [dataset.train.images[number], *(store.take(np.array([number + 23 * c]))[0] for c in range(shown))]
    for picture, image in zip(drawn, expected, strict=True):
        assert np.array_equal(picture, image.transpose(1, 2, 0) if channels == 3 else image[0])
    assert figure.axes[1].get_title() == ("clean" if clean else "0")
