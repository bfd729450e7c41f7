"""TensorBoard's events are the history, and nothing but."""

import sys

import pandas as pd
import pytest
from conftest import make_spec, one_line
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_loop import assert_equal_results, dying_after, results, run

from whysgd.training.events import FOLDER, tag_of


def scalars(folder) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows of a run: (step, value) by tag."""
    events = EventAccumulator(str(folder / FOLDER), size_guidance={"scalars": 0}).Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def assert_is_history(folder, seed):
    """Each finite number of a seed's history is there, at its step, once."""
    history, found = pd.read_csv(folder / "history.csv").query(f"seed == {seed}"), scalars(folder / f"seed-{seed}")
    columns = [column for column in history if column not in ("seed", "step") and history[column].notna().any()]
    assert set(found) == {tag_of(column) for column in columns}
    for column in columns:
        lines = history[["step", column]].dropna()
        assert [step for step, _ in found[tag_of(column)]] == lines.step.tolist()
        assert [value for _, value in found[tag_of(column)]] == pytest.approx(lines[column].tolist(), rel=1e-6)


def test_events_are_the_history_and_change_no_bit(data, tmp_path):
    specs = [make_spec(seed=seed) for seed in (3, 4)]
    run(specs, data, tmp_path / "plain")
    run(specs, data, tmp_path / "shown", tensorboard=True)
    assert_equal_results(results(tmp_path / "plain"), results(tmp_path / "shown"))
    for seed in (3, 4):
        assert_is_history(tmp_path / "shown", seed)
    assert {"loss/train", "accuracy/test", "step/lr"} <= set(scalars(tmp_path / "shown/seed-3"))
    assert scalars(tmp_path / "shown/seed-3") != scalars(tmp_path / "shown/seed-4")
    assert not list((tmp_path / "plain").glob("seed-*"))


@pytest.mark.parametrize("seconds", [1e-9, 1e9], ids=["from a checkpoint", "from the start"])
def test_a_run_that_is_killed_and_continued_has_each_step_once(data, tmp_path, monkeypatch, seconds):
    spec = make_spec(epochs=6, evaluations=6)
    with dying_after(monkeypatch, 4):
        run(spec, data, tmp_path / "run", checkpoint_seconds=seconds, tensorboard=True)
    metrics = run(spec, data, tmp_path / "run", tensorboard=True)
    assert metrics["sessions"] == (2 if seconds < 1 else 1)
    assert len(pd.read_csv(tmp_path / "run/history.csv")) == 6
    assert_is_history(tmp_path / "run", 3)


def test_without_the_package_one_line_says_what_to_do(data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with one_line("tensorboard is not installed; `pip install tensorboard`"):
        run(make_spec(), data, tmp_path / "run", tensorboard=True)
