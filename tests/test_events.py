"""TensorBoard's events are the history, and nothing but."""

import sys

import pandas as pd
import pytest
from conftest import make_spec
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_loop import assert_equal_results, dying_after, folder_of, results
from whysgd.training.stack import Stack

from whysgd.errors import UserError
from whysgd.study.registry import make
from whysgd.training.events import FOLDER, tag_of
from whysgd.training.loop import train, train_runs


def scalars(folder) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows of a run: (step, value) by tag."""
    events = EventAccumulator(str(folder / FOLDER), size_guidance={"scalars": 0}).Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def assert_is_history(folder):
    """Each finite number of the history is there, at its step, once."""
    history, found = pd.read_csv(folder / "history.csv"), scalars(folder)
    columns = [column for column in history if column != "step" and history[column].notna().any()]
    assert set(found) == {tag_of(column) for column in columns}
    for column in columns:
        lines = history[["step", column]].dropna()
        assert [step for step, _ in found[tag_of(column)]] == lines.step.tolist()
        assert [value for _, value in found[tag_of(column)]] == pytest.approx(lines[column].tolist(), rel=1e-6)


def test_events_are_the_history_and_change_no_bit(dataset, tmp_path):
    spec, data = make_spec(), folder_of(dataset, tmp_path / "data")
    train(spec, data, tmp_path / "plain")
    train(spec, data, tmp_path / "shown", tensorboard=True)
    assert_equal_results(results(tmp_path / "plain"), results(tmp_path / "shown"))
    assert_is_history(tmp_path / "shown")
    assert {"loss/train", "accuracy/test", "step/lr"} <= set(scalars(tmp_path / "shown"))
    assert not (tmp_path / "plain" / FOLDER).exists()


@pytest.mark.parametrize("seconds", [1e-9, 1e9], ids=["from a checkpoint", "from the start"])
def test_a_run_that_is_killed_and_continued_has_each_step_once(dataset, tmp_path, monkeypatch, seconds):
    spec, data = make_spec(epochs=6, evaluations=6), folder_of(dataset, tmp_path / "data")
    with dying_after(monkeypatch, 4):
        train(spec, data, tmp_path / "run", checkpoint_seconds=seconds, tensorboard=True)
    metrics = train(spec, data, tmp_path / "run", tensorboard=True)
    assert metrics["sessions"] == (2 if seconds < 1 else 1)
    assert len(pd.read_csv(tmp_path / "run/history.csv")) == 6
    assert_is_history(tmp_path / "run")


def test_each_run_in_lockstep_has_its_own(dataset, tmp_path, monkeypatch):
    specs = [
        make_spec(
            model="fc_d2_w4", macro_batch=5, augment=None, penalty=None, clip=None, seed=seed, lr=0.01,
            schedule=make("schedule", "constant", unit="epoch", warmup=0),
        )
        for seed in (0, 1)
    ]  # fmt: skip
    made, step = [], Stack.step
    monkeypatch.setattr(Stack, "step", lambda self: made.append(1) or step(self))
    outs = [tmp_path / "a", tmp_path / "b"]
    train_runs(specs, folder_of(dataset, tmp_path / "data"), outs, tensorboard=True)
    assert made
    for out in outs:
        assert_is_history(out)
    assert scalars(outs[0]) != scalars(outs[1])


def test_without_the_package_one_line_says_what_to_do(dataset, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UserError, match="tensorboard is not installed; `pip install tensorboard`") as caught:
        train(make_spec(), folder_of(dataset, tmp_path / "data"), tmp_path / "run", tensorboard=True)
    assert "\n" not in str(caught.value)
