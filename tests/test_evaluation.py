"""What a run evaluates: averaged weights, mirror images, and when it stops."""

from functools import partial

import pytest
import torch
from conftest import folder_of, make_dataset, make_spec, with_seeds
from safetensors.torch import load_file
from test_loop import assert_continues, run

from whysgd.measures.accuracy import evaluate, logits_at
from whysgd.study.registry import make
from whysgd.training.divergence import DivergenceCheck
from whysgd.training.loop import Trainer

CONSTANT = make("schedule", "constant", unit="step")
PLAIN = make_spec(penalty=None, clip=None, lr=0.3, schedule=CONSTANT, epochs=6, evaluations=6)
NOISY = PLAIN.replace(batch=5, ema=0.9, transform={"name": "gradient_noise", "additive": 0.01})


@pytest.mark.parametrize("batch", ["all", 5])
def test_the_average_moves_after_each_epoch_and_is_what_is_evaluated_and_saved(batch):
    data, specs = make_dataset(), [PLAIN.replace(batch=batch, ema=0.6, seed=seed) for seed in (3, 4)]
    trainer = Trainer(specs, data, dtype=torch.float64)
    averages = [(state.theta.clone(), state.running.clone()) for state in trainer.states]
    alone = [Trainer([spec.replace(ema=None)], data, dtype=torch.float64) for spec in specs]
    per_epoch = 1 if batch == "all" else 5
    for step in range(1, 3 * per_epoch + 1):
        for one in (trainer, *alone):
            one.after_step(one.step())
        for row, one in enumerate(alone):
            now = (one.states[0].theta, one.states[0].running)
            torch.testing.assert_close(trainer.states[row].theta, now[0], rtol=1e-9, atol=1e-12)
            if step % per_epoch == 0:
                averages[row] = tuple(0.6 * a + 0.4 * b for a, b in zip(averages[row], now, strict=True))
                logits = logits_at(trainer.objective, *averages[row], trainer.normalize)
                found = evaluate(logits, torch.from_numpy(data.test.images), torch.from_numpy(data.test.labels))
                assert trainer.states[row].history[-1]["test_loss"] == pytest.approx(found["loss"], rel=1e-9)
                assert found["loss"] != pytest.approx(one.states[0].history[-1]["test_loss"], rel=1e-6)
            saved = trainer.tensors(trainer.states[row])
            layouts = trainer.objective.parameters, trainer.objective.buffers
            for places, vector in zip(layouts, averages[row], strict=True):
                for name, view in places.views(vector).items():
                    torch.testing.assert_close(saved[name], view, rtol=1e-9, atol=1e-12)


def test_an_interrupted_average_continues_to_the_same_bits(data, tmp_path, monkeypatch):
    specs = with_seeds(NOISY, 3, 4)
    assert_continues(specs, data, tmp_path, monkeypatch, 1, 7, 12)
    run([spec.replace(ema=None) for spec in specs], data, tmp_path / "plain")
    averaged, plain = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "plain"))
    assert averaged.keys() == plain.keys()
    assert not any(torch.equal(averaged[name], plain[name]) for name in plain if "num_batches" not in name)


def test_mirror_images_are_evaluated_by_the_mean_of_both_probabilities():
    data = make_dataset()
    trainer = Trainer([PLAIN.replace(test_time_flips=True)], data, dtype=torch.float64)
    for _ in range(3):
        trainer.after_step(trainer.step())
    [state] = trainer.states
    losses, right = [], []
    for image, label in zip(torch.from_numpy(data.test.images), data.test.labels, strict=True):
        both = [trainer.normalize(one[None]) for one in (image, torch.flip(image, [2]))]
        mean = sum(trainer.objective.logits(state.theta, state.running, one).softmax(1)[0] for one in both) / 2
        losses.append(-mean[label].log().item())
        right.append(int(mean.argmax()) == label)
    line = state.history[-1]
    assert line["test_loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-9)
    assert line["test_accuracy"] == pytest.approx(100 * sum(right) / len(right))
    logits = logits_at(trainer.objective, state.theta, state.running, trainer.normalize)
    plain = evaluate(logits, torch.from_numpy(data.test.images), torch.from_numpy(data.test.labels))
    assert plain["loss"] != pytest.approx(line["test_loss"], rel=1e-6)


def test_a_run_stops_after_so_many_accurate_looks_in_a_row(monkeypatch):
    found = iter([True, False, True, True, True, True])
    monkeypatch.setattr("whysgd.training.loop.reaches", lambda *arguments: next(found))
    trainer = Trainer([PLAIN.replace(stop_accuracy=100.0, stop_after=3)], make_dataset())
    while trainer.batch is not None:
        trainer.after_step(trainer.step())
    [state] = trainer.states
    assert (state.ended, state.step) == ("stopped", 5)
    with pytest.raises(ValueError, match="stop_after: needs stop_accuracy"):
        PLAIN.replace(stop_after=2)


def test_the_best_weights_are_the_average_at_that_step(tmp_path):
    data = make_dataset()
    spec = PLAIN.replace(batch=5, ema=0.5, held_out=0.3, select_every=1)
    metrics = run(spec, folder_of(data, tmp_path / "data"), tmp_path / "run")
    assert metrics["best"]["step"] < metrics["steps"]
    trainer = Trainer([spec], data)
    for name, expected in (("best", metrics["best"]), ("model", metrics["final"])):
        saved = load_file(tmp_path / "run" / f"{name}.safetensors")
        tensors = {key.partition("/")[2]: tensor for key, tensor in saved.items()}
        objective = trainer.objective
        theta, running = (places.vector(tensors) for places in (objective.parameters, objective.buffers))
        found = evaluate(logits_at(objective, theta, running, trainer.normalize), *trainer.data["test"])
        assert found["loss"] == pytest.approx(expected["test_loss"], rel=1e-6)


def test_mirror_images_count_where_a_run_looks_whether_to_stop():
    trainer, seen = Trainer([PLAIN.replace(batch=5)], make_dataset()), set()
    spec = trainer.spec
    while trainer.batch is not None:
        trainer.after_step(trainer.step())
        [state] = trainer.states
        found = []
        for flips in (False, True):
            logits = logits_at(trainer.objective, state.theta, state.running, trainer.normalize, flips)
            found.append(evaluate(logits, *trainer.data["train"])["accuracy"])
        if found[0] != found[1]:
            trainer.spec = spec.replace(stop_accuracy=sum(found) / 2, test_time_flips=True)
            state.accurate = 0
            assert trainer.reaches(state) == (found[1] > found[0])
            trainer.spec, state.accurate = spec, 0
            seen.add(found[1] > found[0])
    assert seen


def test_a_seed_that_stops_does_not_hide_that_another_diverges(monkeypatch):
    """Losses are read some steps late on a GPU; what is unread when a seed leaves must count."""
    monkeypatch.setattr("whysgd.training.loop.DivergenceCheck", partial(DivergenceCheck, lag=8))
    spec = PLAIN.replace(batch=5, epochs=20, evaluations=1, stop_accuracy=80.0, stop_every=1)
    ends = []
    for seeds in ((4,), (3, 4)):
        trainer = Trainer([spec.replace(seed=seed) for seed in seeds], make_dataset())
        monkeypatch.setattr(trainer, "reaches", lambda state, t=trainer: state is t.states[0] and state.step == 6)
        if len(seeds) == 1:
            monkeypatch.setattr(trainer, "reaches", lambda state: False)
        while trainer.batch is not None:
            if trainer.batch.step == 4:
                trainer.batch.theta[-1] = float("nan")
            trainer.after_step(trainer.step())
        ends.append((trainer.states[-1].ended, trainer.states[-1].step))
    assert ends[0][0] == "diverged"
    assert ends[0] == ends[1]
