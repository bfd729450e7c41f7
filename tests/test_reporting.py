"""The frames of runs and histories."""

import json

import pytest
from conftest import make_dataset, make_spec
from test_loop import folder_of

from whysgd.errors import UserError
from whysgd.report.frame import read_histories, read_runs
from whysgd.training.loop import train


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
    settings = [json.loads(text) for text in frame.settings]
    assert settings[0] == settings[1]
    assert {"lr", "momentum", "penalty"} <= settings[0].keys()
    assert settings[0].keys().isdisjoint({"paper", "run", "scale", "seed"})
    assert len(histories) == 2 * 4
    last = histories[(histories.seed == 1) & (histories.step == 4)].iloc[0]
    assert last.test_accuracy == frame.test_accuracy[1]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"paper": "p"}'])
def test_damaged_metrics_are_named(tmp_path, content):
    file = tmp_path / "metrics.json"
    file.write_text(content)
    with pytest.raises(UserError, match=str(file)):
        read_runs([file])
