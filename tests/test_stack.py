"""Runs in lockstep against the plain loop, one by one."""

import csv

import pytest
import torch
from conftest import make_dataset, make_spec
from test_loop import TIMES, assert_equal_results, dying_after, folder_of, results

from whysgd.files import read_json
from whysgd.models.build import build_model
from whysgd.study.registry import make
from whysgd.study.spec import NoiseWatch, in_lockstep
from whysgd.training import loop
from whysgd.training.dense import dense_gradients
from whysgd.training.gradients import ALONE
from whysgd.training.loop import train, train_runs
from whysgd.training.noise_log import noise_steps
from whysgd.training.objective import Objective
from whysgd.training.ranks import Ranks
from whysgd.training.stack import Stack
from whysgd.training.trainer import Trainer

PLAIN = make_spec(
    model="fc_d3_w8", macro_batch=5, block=5, epochs=4, penalty=None, clip=None, augment=None, shuffle=False, lr=0.3,
    schedule=make("schedule", "step", unit="run", warmup=0, milestones=(0.25, 0.5), factor=0.5), nesterov=False, momentum=0.0,
)  # fmt: skip
SETTINGS = {
    "as simsekli2019": PLAIN,
    "linear hinge": PLAIN.replace(loss="linear_hinge"),
    "own orders": PLAIN.replace(shuffle=True),
    "momentum and decay": PLAIN.replace(momentum=0.9, nesterov=True, drop_last=True),
    "by the epoch": PLAIN.replace(schedule=make("schedule", "cosine", unit="epoch", warmup=1.5, horizon=6.0)),
    "augmented": PLAIN.replace(augment=make_spec().augment, shuffle=True),
}


def seeds(spec, count=3):
    return [spec.replace(seed=seed) for seed in range(count)]


@pytest.mark.parametrize("loss", ["cross_entropy", "linear_hinge"])
@pytest.mark.parametrize("model", ["fc_d2_w4", "fc_d5_w7"])
@pytest.mark.parametrize("shared", ["nothing", "images", "weights"])
def test_the_chain_rule_written_out_equals_autograd(loss, model, shared):
    torch.manual_seed(0)
    objective = Objective(build_model(model, 2, 3, 0, 5), loss=loss)
    k, parameters = 4, sum(objective.parameters.sizes)
    theta = torch.randn(1 if shared == "weights" else k, parameters, dtype=torch.float64)
    images = torch.randn(1 if shared == "images" else k, 6, 2, 5, 5, dtype=torch.float64)
    labels = torch.randint(0, 3, images.shape[:2])
    out = torch.full((k, parameters), torch.nan, dtype=torch.float64)
    losses = dense_gradients(objective, theta, images, labels, out)
    for index in range(k):
        one = [part[index % len(part)][None] for part in (images, labels)]
        loss_, gradient, _ = objective.gradients(theta[index % len(theta)], *one)
        torch.testing.assert_close(losses[index], loss_[0], rtol=1e-13, atol=1e-13)
        torch.testing.assert_close(out[index], gradient, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("spec", SETTINGS.values(), ids=SETTINGS.keys())
def test_a_stack_follows_the_plain_loop_over_many_steps(spec):
    data = make_dataset(channels=2)
    plain = [Trainer(one, data, dtype=torch.float64) for one in seeds(spec)]
    stack = Stack([Trainer(one, data, dtype=torch.float64) for one in seeds(spec)])
    for step in range(16):
        expected, found = [trainer.step() for trainer in plain], stack.step()
        for trainer, other, row, line in zip(plain, stack.trainers, expected, found, strict=True):
            torch.testing.assert_close(other.state.theta, trainer.state.theta, rtol=1e-10, atol=1e-12)
            torch.testing.assert_close(other.state.momentum, trainer.state.momentum, rtol=1e-10, atol=1e-12)
            torch.testing.assert_close(other.state.norms, trainer.state.norms, rtol=1e-10, atol=1e-12)
            assert (other.state.step, other.state.blocks) == (trainer.state.step, trainer.state.blocks)
            assert row.keys() == line.keys()
            if trainer.has_line(step + 1):
                theirs, ours = (t.evaluate(r) for t, r in ((trainer, row), (other, line)))
                assert theirs.keys() == ours.keys()
                measured = {key for key, value in theirs.items() if value is not None}
                assert (
                    measured
                    == {key for key, value in ours.items() if value is not None}
                    >= {"train_loss", "step_length"}
                )
                assert [theirs[key] for key in measured] == pytest.approx([ours[key] for key in measured], rel=1e-9)


def test_the_numbers_of_a_run_do_not_depend_on_its_company():
    data = make_dataset()
    alone = [Stack([Trainer(spec, data)]) for spec in seeds(PLAIN)]
    stack = Stack([Trainer(spec, data) for spec in seeds(PLAIN)])
    for _ in range(16):
        stack.step()
        for one in alone:
            one.step()
    assert torch.equal(stack.theta, torch.cat([one.theta for one in alone]))


def test_only_runs_that_fit_are_in_lockstep():
    assert in_lockstep([PLAIN])
    assert in_lockstep(seeds(PLAIN))
    assert not in_lockstep([PLAIN, PLAIN.replace(lr=0.1)])
    for change in (
        {"macro_batch": 10}, {"clip": 0.1}, {"penalty": make_spec().penalty}, {"held_out": 0.2},
        {"model": "resnet_mini"}, {"macro_batch": "all"},
    ):  # fmt: skip
        assert not in_lockstep([PLAIN.replace(**change)]), change
    ahead = Trainer(PLAIN.replace(seed=1), make_dataset())
    ahead.step()
    with pytest.raises(ValueError, match="same step"):
        Stack([Trainer(PLAIN.replace(seed=2), make_dataset()), ahead])
    with pytest.raises(ValueError, match="differ in their seeds"):
        Stack([Trainer(PLAIN, make_dataset()), Trainer(PLAIN.replace(lr=0.1), make_dataset())])


def reached(spec, data, tmp_path):
    """The training accuracies that each seed's evaluations find."""
    folders = [tmp_path / f"free-{one.seed}" for one in seeds(spec)]
    train_runs(seeds(spec), data, folders)
    return [[float(line["train_accuracy"]) for line in csv.DictReader(open(f / "history.csv"))] for f in folders]


def test_runs_together_leave_what_each_leaves_alone(tmp_path):
    spec = PLAIN.replace(epochs=12, noise=NoiseWatch(points=3), evaluations=6)
    data = folder_of(make_dataset(40), tmp_path / "data")
    accuracies = reached(spec, data, tmp_path)
    # One that some seeds reach before others, and before the end.
    wanted = sorted(max(course[:-1]) for course in accuracies)[1]
    spec = spec.replace(stop_accuracy=wanted)
    outs = [tmp_path / f"together-{seed}" for seed in range(3)]
    metrics = train_runs(seeds(spec), data, outs)
    for one, out, found, course in zip(seeds(spec), outs, metrics, accuracies, strict=True):
        alone = train(one, data, tmp_path / f"alone-{one.seed}")
        ours, theirs = results(out), results(tmp_path / f"alone-{one.seed}")
        assert (ours[0].pop("trained_together"), theirs[0].pop("trained_together")) == (3, 1)
        assert_equal_results(ours, theirs)
        for name in ("noise.csv", "layers.csv", "noise_norms.csv", "gradient_norms.csv"):
            assert (out / name).read_bytes() == (tmp_path / f"alone-{one.seed}" / name).read_bytes()
        first = next((i for i, accuracy in enumerate(course) if accuracy >= wanted), len(course) - 1)
        assert found["steps"] == 16 * (first + 1)
        assert found["stopped_at_accuracy"] == (wanted if first < len(course) - 1 else None)
        assert {k: v for k, v in read_json(out / "metrics.json").items() if k not in TIMES}["steps"] == alone["steps"]
    assert len({found["steps"] for found in metrics}) > 1


@pytest.mark.parametrize("stop", [1, 7, 40, 70])
def test_interrupted_runs_continue_together_to_the_same_bits(tmp_path, monkeypatch, stop):
    spec = PLAIN.replace(epochs=12, noise=NoiseWatch(points=3), evaluations=6)
    data = folder_of(make_dataset(40), tmp_path / "data")
    accuracies = reached(spec, data, tmp_path)
    spec = spec.replace(stop_accuracy=sorted(max(course[:-1]) for course in accuracies)[1])
    whole, cut = ([tmp_path / f"{kind}-{seed}" for seed in range(3)] for kind in ("whole", "cut"))
    train_runs(seeds(spec), data, whole)
    with dying_after(monkeypatch, stop, Stack):
        train_runs(seeds(spec), data, cut, checkpoint_seconds=1e-9)
    assert not any((folder / "metrics.json").exists() for folder in cut)
    assert [one["sessions"] for one in train_runs(seeds(spec), data, cut)] == [2, 2, 2]
    for first, second in zip(whole, cut, strict=True):
        assert_equal_results(results(first), results(second))
        assert (first / "noise_norms.csv").read_bytes() == (second / "noise_norms.csv").read_bytes()
    assert not any(list(folder.glob("*checkpoint*")) for folder in cut)


def test_a_seed_that_is_added_leaves_the_others_alone(tmp_path, capsys):
    data, outs = folder_of(make_dataset(), tmp_path / "data"), [tmp_path / f"seed-{seed}" for seed in range(3)]
    train_runs(seeds(PLAIN, 2), data, outs[:2])
    before = [(out / "metrics.json").read_bytes() for out in outs[:2]]
    after = train_runs(seeds(PLAIN), data, outs)
    assert [(out / "metrics.json").read_bytes() for out in outs[:2]] == before
    assert [one["seed"] for one in after] == [0, 1, 2]
    assert capsys.readouterr().err.count("finished already") == 2
    assert after[2]["trained_together"] == 1


def test_one_that_diverges_leaves_the_others_alone(tmp_path):
    data, outs = folder_of(make_dataset(), tmp_path / "data"), [tmp_path / f"seed-{seed}" for seed in range(2)]
    spec, start = PLAIN.replace(noise=NoiseWatch(points=2)), Stack.__init__

    def poisoned(self, trainers):
        start(self, trainers)
        for trainer in trainers:
            if trainer.spec.seed == 1 and trainer.state.step == 0:
                trainer.state.theta[0] = torch.nan

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stack, "__init__", poisoned)
        metrics = train_runs(seeds(spec, 2), data, outs)
    assert [one["status"] for one in metrics] == ["finished", "diverged"]
    assert metrics[1]["steps"] == 1
    assert metrics[0]["final"]["test_loss"] > 0
    assert len((outs[0] / "gradient_norms.csv").read_text().splitlines()) == 1 + 20


def test_the_noise_is_measured_on_a_log_scale():
    assert noise_steps(4, 10_000) == {0, 10, 100, 1000, 10_000}
    assert noise_steps(1, 7) == {0, 7}


@pytest.mark.parametrize("model", ["fc_d3_w8", "resnet_mini"])
def test_the_noise_of_a_run_is_that_of_its_blocks(model):
    spec = PLAIN.replace(model=model, noise=NoiseWatch(points=1))
    data = make_dataset(23, channels=2)
    trainer = Trainer(spec, data, dtype=torch.float64)
    for _ in range(3):
        trainer.step()
    before = trainer.state.theta.clone()
    trainer.record_noise(end=True)
    (found,) = trainer.state.noise
    images, labels = torch.from_numpy(data.train.images), torch.from_numpy(data.train.labels)
    gradients = torch.stack([
        trainer.objective.gradients(before, trainer.normalize(images[i : i + 5])[None], labels[None, i : i + 5])[1]
        for i in (0, 5, 10, 15)
    ])  # fmt: skip
    noise = gradients - gradients.mean(0)
    assert found["norms"] == pytest.approx(noise.norm(dim=1).tolist(), rel=1e-9)
    assert found["line"]["noise_norm2"] == pytest.approx(noise.square().sum(1).mean().item(), rel=1e-9)
    assert found["line"]["gradient_norm"] == pytest.approx(gradients.mean(0).norm().item(), rel=1e-9)
    assert found["line"]["step"] == 3
    assert torch.equal(trainer.state.theta, before)
    views = trainer.objective.parameters.views(gradients.mean(0))
    assert [(one["layer"], one["gradient_norm"]) for one in found["layers"]] == [
        (name, pytest.approx(view.norm().item(), rel=1e-9)) for name, view in views.items()
    ]


def logged_steps(run):
    return [int(line.split(",")[0]) for line in (run / "noise.csv").read_text().splitlines()[1:]]


def test_the_noise_log_ends_with_the_run(tmp_path):
    spec = PLAIN.replace(epochs=12, noise=NoiseWatch(points=2), evaluations=6, stop_accuracy=0.0)
    data = folder_of(make_dataset(40), tmp_path / "data")
    metrics = train(spec, data, tmp_path / "run")
    steps = logged_steps(tmp_path / "run")
    assert metrics["stopped_at_accuracy"] == 0.0
    assert steps == [0, 10, metrics["steps"]] == [0, 10, 16]


def test_a_diverged_run_measures_no_more_noise(tmp_path):
    spec = PLAIN.replace(model="resnet_mini", lr=1e30, noise=NoiseWatch(points=2))
    metrics = train(spec, folder_of(make_dataset(), tmp_path / "data"), tmp_path / "run")
    assert metrics["status"] == "diverged"
    assert logged_steps(tmp_path / "run")[-1] < metrics["steps"]


def test_a_checkpoint_serves_the_same_runs_alone(tmp_path, monkeypatch):
    data, outs = folder_of(make_dataset(), tmp_path / "data"), [tmp_path / f"seed-{seed}" for seed in range(3)]
    whole = [tmp_path / f"whole-{seed}" for seed in range(3)]
    train_runs(seeds(PLAIN), data, whole)
    with dying_after(monkeypatch, 7, Stack):
        train_runs(seeds(PLAIN)[:2], data, outs[:2], checkpoint_seconds=1e-9)
    assert (outs[0] / "checkpoint.safetensors").exists()
    # Others in company of the same first one: they start over, and none takes the weights of another.
    chosen = [seeds(PLAIN)[0], seeds(PLAIN)[2]]
    metrics = train_runs(chosen, data, [outs[0], outs[2]])
    assert [one["sessions"] for one in metrics] == [1, 1]
    for number in (0, 2):
        ours, theirs = results(outs[number]), results(whole[number])
        assert (ours[0].pop("trained_together"), theirs[0].pop("trained_together")) == (2, 3)
        assert_equal_results(ours, theirs)


def test_an_engine_that_is_asked_for_is_taken():
    assert loop._lockstep(seeds(PLAIN), ALONE, "auto")
    assert not loop._lockstep(seeds(PLAIN), ALONE, "compiled")
    assert not loop._lockstep(seeds(PLAIN), Ranks(0, 2), "auto")
