"""The frames of runs and histories."""

import json

from conftest import make_spec

from whysgd.report.frame import read_histories, read_runs
from whysgd.training.loop import train


def test_frames_hold_every_run_and_every_evaluation(data, tmp_path):
    train([make_spec(seed=seed, run="a") for seed in (0, 1)], data, tmp_path)
    file = tmp_path / "metrics.json"
    frame, histories = read_runs([file]), read_histories([file], [tmp_path / "history.csv"])
    assert frame.seed.tolist() == [0, 1]
    assert {"test_accuracy", "best_test_accuracy", "dataset", "model", "facts"} <= set(frame.columns)
    settings = [json.loads(text) for text in frame.settings]
    assert settings[0] == settings[1]
    assert {"lr", "momentum", "penalty"} <= settings[0].keys()
    assert settings[0].keys().isdisjoint({"paper", "run", "scale", "seed"})
    assert len(histories) == 2 * 4
    last = histories[(histories.seed == 1) & (histories.step == 4)].iloc[0]
    assert last.test_accuracy == frame.test_accuracy[1]
