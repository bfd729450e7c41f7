"""The frames of runs and histories, and the figures of a table: curves, comparison and stored copies."""


import numpy as np
import pandas as pd
import pytest
from conftest import make_dataset, make_spec
from frames import TABLE, row
from test_loop import folder_of

from whysgd.data.build_store import build_store
from whysgd.errors import UserError
from whysgd.report import figures, tables
from whysgd.report.frame import read_histories, read_runs
from whysgd.study.spec import StoredCopies
from whysgd.training.loop import train


@pytest.mark.parametrize(("channels", "copies", "clean"), [(1, 2, False), (3, 12, True)])
def test_a_sheet_shows_each_class_and_its_stored_versions(tmp_path, channels, copies, clean):
    dataset = make_dataset(channels=channels)
    plan = StoredCopies(copies, 2, True, clean_first=clean)
    store = build_store(dataset, plan, tmp_path / "s.lmdb")
    figure = figures.plot_sheet(dataset, store)
    shown = min(copies, 10)
    assert len(figure.axes) == 3 * (1 + shown)
    number = int(np.flatnonzero(dataset.train.labels == 1)[0])
    drawn = [np.asarray(axis.images[0].get_array()) for axis in figure.axes[1 + shown : 2 * (1 + shown)]]
    expected = [dataset.train.images[number], *(store.take(np.array([number + 23 * c]))[0] for c in range(shown))]
    for picture, image in zip(drawn, expected, strict=True):
        assert np.array_equal(picture, image.transpose(1, 2, 0) if channels == 3 else image[0])
    assert figure.axes[1].get_title() == ("clean" if clean else "0")
    figures.save_figure(figure, [tmp_path / "sheet.png"])


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    data = folder_of(make_dataset(), folder / "data")
    train([make_spec(seed=seed, run="a") for seed in (0, 1)], data, folder / "seeds-0-1")
    return [folder / "seeds-0-1" / "metrics.json"]


def courses(runs):
    return [file.with_name("history.csv") for file in runs]


def test_frames_hold_every_run_and_every_evaluation(runs):
    frame, histories = read_runs(runs), read_histories(runs, courses(runs))
    assert frame.seed.tolist() == [0, 1]
    assert {"test_accuracy", "best_test_accuracy", "dataset", "model", "seconds_per_step"} <= set(frame.columns)
    assert len(histories) == 2 * 4
    last = histories[(histories.seed == 1) & (histories.step == 4)].iloc[0]
    assert last.test_accuracy == frame.test_accuracy[1]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"paper": "p"}'])
def test_damaged_metrics_are_named(tmp_path, content):
    file = tmp_path / "metrics.json"
    file.write_text(content)
    with pytest.raises(UserError, match=str(file)):
        read_runs([file])


def test_figures_are_drawn_with_every_row_and_are_reproducible(runs, tmp_path):
    histories, frame = read_histories(runs, courses(runs)), read_runs(runs)
    table = {**TABLE, "rows": [row("a", "Row A", 95.0, 0.5), row("b", "Row B", 80.0)]}
    other = {"run": "b", "test_accuracy": 7.0}
    histories, frame = (pd.concat([part, part.assign(**other)]) for part in (histories, frame))
    lines = tables.make_table(table, "geiping2022", frame)
    for name in ("first", "second"):
        figures.save_figure(figures.plot_curves(table, histories, "here"), [tmp_path / f"{name}_curves.svg"])
        figure = figures.plot_comparison(table, lines, frame, "here")
        figures.save_figure(figure, [tmp_path / f"{name}_comparison.svg", tmp_path / f"{name}_comparison.png"])
    for kind in ("curves", "comparison"):
        text = (tmp_path / f"first_{kind}.svg").read_text()
        assert text == (tmp_path / f"second_{kind}.svg").read_text()
        assert "Row A" in text
        assert "Row B" in text
    assert (tmp_path / "first_comparison.png").read_bytes().startswith(b"\x89PNG")
    axis = figures.plot_comparison(table, lines, frame, "here").axes[0]
    drawn = {round(float(x), 6) for line in axis.lines for x in line.get_xdata()}
    expected = {95.0, 80.0, 7.0, *frame.test_accuracy, lines.measured_mean[0]}
    assert {round(float(x), 6) for x in expected} <= drawn
    accuracy = figures.plot_curves(table, histories, "here").axes[2]
    course = histories[histories.run == "a"].groupby("epoch").test_accuracy.mean()
    assert any(list(line.get_ydata()) == pytest.approx(course.tolist()) for line in accuracy.lines)
    assert any(set(line.get_ydata()) == {7.0} for line in accuracy.lines)
