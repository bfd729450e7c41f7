import csv

import pytest
import torch
from conftest import folder_of, make_dataset
from test_loop import run
from test_seeds import PLAIN, seeds_of

from whysgd.measures.accuracy import evaluate, logits_at, reaches
from whysgd.measures.alpha import alpha_estimator, largest_divisor
from whysgd.measures.network import Network
from whysgd.models.build import build_model
from whysgd.study.spec import NoiseProbe
from whysgd.training.loop import Trainer
from whysgd.training.noise_log import noise_steps


def test_the_noise_is_measured_on_a_log_scale():
    assert noise_steps(4, 10_000) == {0, 10, 100, 1000, 10_000}
    assert noise_steps(1, 7) == {0, 7}


@pytest.mark.parametrize("test", [False, True])
@pytest.mark.parametrize("model", ["fc_d3_w8", "resnet_mini"])
def test_the_noise_of_a_seed_is_that_of_its_micro_batches(model, test):
    spec, data = PLAIN.replace(model=model, noise=NoiseProbe(points=1, test=test)), make_dataset(23, channels=2)
    trainer = Trainer(seeds_of(spec, 2), data, dtype=torch.float64)
    for _ in range(3):
        trainer.step()
    state = trainer.states[1]
    state.ended, state.noise, before = "stopped", [], state.theta.clone()
    trainer.record_noise()
    (found,) = state.noise
    assert list(found["norms"]) == ["train", "test"][: 1 + test]
    # Evaluation mode: batch norm has the statistics of the steps before.
    network = Network(build_model(spec.model, 2, 3, 0, 8).double().eval())
    network.model.load_state_dict(trainer.tensors(state))
    # The last images of a split, here 3 of 23 and 1 of 11, fill no micro-batch.
    for split, starts in (("test", (0, 5)), ("train", (0, 5, 10, 15)))[not test :]:
        images, labels = (torch.from_numpy(getattr(getattr(data, split), part)) for part in ("images", "labels"))
        gradients = torch.cat([
            network.gradients(before, trainer.normalize(images[i : i + 5])[None], labels[None, i : i + 5]) for i in starts
        ])  # fmt: skip
        noise, of = gradients - gradients.mean(0), "test_" * (split == "test")
        assert found["norms"][split] == pytest.approx(noise.norm(dim=1).tolist(), rel=1e-9)
        assert found["line"][f"{of}noise_norm2"] == pytest.approx(noise.square().sum(1).mean().item(), rel=1e-9)
        assert found["line"][f"{of}gradient_norm"] == pytest.approx(gradients.mean(0).norm().item(), rel=1e-9)
        m = largest_divisor(noise.numel())
        assert found["line"][f"{of}tail_index"] == pytest.approx(alpha_estimator(m, noise.flatten()), rel=1e-9)
    assert found["line"]["step"] == 3
    assert torch.equal(state.theta, before)
    views = trainer.objective.parameters.views(gradients.mean(0))
    assert [(one["layer"], one["gradient_norm"]) for one in found["layers"]] == [
        (name, pytest.approx(view.norm().item(), rel=1e-9)) for name, view in views.items()
    ]


def logged_steps(folder):
    return [int(line.split(",")[1]) for line in (folder / "noise.csv").read_text().splitlines()[1:]]


def test_the_noise_log_ends_with_the_run(tmp_path):
    spec = PLAIN.replace(epochs=12, noise=NoiseProbe(points=2), evaluations=6, stop_accuracy=0.0)
    metrics = run(spec, folder_of(make_dataset(40), tmp_path / "data"), tmp_path / "run")
    assert metrics["stopped_at_accuracy"] == 0.0
    assert logged_steps(tmp_path / "run") == [0, 10, metrics["steps"]] == [0, 10, 16]


def network_of(trainer):
    state = trainer.states[0]
    return logits_at(trainer.objective, state.theta, state.running, trainer.normalize)


@pytest.mark.parametrize("every", [1, 3])
def test_a_run_looks_so_often_whether_to_stop(tmp_path, every):
    """The first multiple of `every` at which every training image is classified, found by looking after each step."""
    spec, data = PLAIN.replace(epochs=40, evaluations=1, stop_accuracy=80.0), make_dataset(40)
    trainer, step, measured = Trainer([spec], data), 0, {}
    while not step or step % every or measured["accuracy"] < 80:
        trainer.step()
        step += 1
        measured = evaluate(network_of(trainer), *trainer.data["train"])
    assert 3 < step < trainer.total
    folder = folder_of(data, tmp_path / "data")
    metrics = run(spec.replace(stop_every=every), folder, tmp_path / "run")
    assert (metrics["steps"], metrics["stopped_at_accuracy"]) == (step, 80.0)
    history = (tmp_path / "run/history.csv").read_text().splitlines()
    (last,) = csv.DictReader(history)
    assert last["full_loss"]
    assert last["step_length"]
    assert metrics["final"]["train_accuracy"] == pytest.approx(measured["accuracy"])
    # Without it only evaluations count.
    assert run(spec, folder, tmp_path / "whole")["steps"] == trainer.total


@pytest.mark.parametrize("count", [7, 2500])
def test_looking_whether_to_stop_is_an_evaluation_that_ends_early(count):
    trainer = Trainer([PLAIN], make_dataset(40))
    generator = torch.Generator().manual_seed(count)
    images = torch.randint(0, 256, (count, *trainer.data["train"][0].shape[1:]), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, 3, (count,), generator=generator)
    arguments = network_of(trainer), images, labels
    accuracy = evaluate(*arguments)["accuracy"]
    assert 0 < accuracy < 100
    assert reaches(*arguments, accuracy)
    assert not reaches(*arguments, accuracy + 1e-9)


def test_a_diverged_run_measures_no_more_noise(data, tmp_path):
    spec = PLAIN.replace(model="resnet_mini", lr=1e30, noise=NoiseProbe(points=2))
    metrics = run(spec, data, tmp_path / "run")
    assert metrics["status"] == "diverged"
    assert logged_steps(tmp_path / "run")[-1] < metrics["steps"]
