import pytest
import torch
from conftest import make_dataset
from test_loop import folder_of, run
from test_seeds import PLAIN, seeds_of

from whysgd.measures.network import Network
from whysgd.models.build import build_model
from whysgd.study.spec import NoiseProbe
from whysgd.training.loop import Trainer
from whysgd.training.noise_log import noise_steps


def test_the_noise_is_measured_on_a_log_scale():
    assert noise_steps(4, 10_000) == {0, 10, 100, 1000, 10_000}
    assert noise_steps(1, 7) == {0, 7}


@pytest.mark.parametrize("model", ["fc_d3_w8", "resnet_mini"])
def test_the_noise_of_a_seed_is_that_of_its_micro_batches(model):
    spec, data = PLAIN.replace(model=model, noise=NoiseProbe(points=1)), make_dataset(23, channels=2)
    trainer = Trainer(seeds_of(spec, 2), data, dtype=torch.float64)
    for _ in range(3):
        trainer.step()
    state = trainer.states[1]
    state.ended, state.noise, before = "stopped", [], state.theta.clone()
    trainer.record_noise()
    (found,) = state.noise
    images, labels = torch.from_numpy(data.train.images), torch.from_numpy(data.train.labels)
    # Evaluation mode: batch norm has the statistics of the steps before.
    network = Network(build_model(spec.model, 2, 3, 0, 8).double().eval())
    network.model.load_state_dict(trainer.tensors(state))
    gradients = torch.cat([
        network.gradients(
            before, trainer.normalize(images[i : i + 5])[None], labels[None, i : i + 5]
        )
        for i in (0, 5, 10, 15)
    ])  # fmt: skip
    noise = gradients - gradients.mean(0)
    assert found["norms"] == pytest.approx(noise.norm(dim=1).tolist(), rel=1e-9)
    assert found["line"]["noise_norm2"] == pytest.approx(noise.square().sum(1).mean().item(), rel=1e-9)
    assert found["line"]["gradient_norm"] == pytest.approx(gradients.mean(0).norm().item(), rel=1e-9)
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


def test_a_diverged_run_measures_no_more_noise(tmp_path):
    spec = PLAIN.replace(model="resnet_mini", lr=1e30, noise=NoiseProbe(points=2))
    metrics = run(spec, folder_of(make_dataset(), tmp_path / "data"), tmp_path / "run")
    assert metrics["status"] == "diverged"
    assert logged_steps(tmp_path / "run")[-1] < metrics["steps"]
