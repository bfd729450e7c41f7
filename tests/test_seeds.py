"""Seeds that share passes against each seed alone."""

import pytest
import torch
from conftest import folder_of, make_dataset, make_spec, with_seeds
from test_loop import assert_continues, assert_equal_results, dying_after, results, run
from test_novack import REFERENCE_NORMS, RUNS

from whysgd.results.metrics import read_metrics
from whysgd.study.registry import make
from whysgd.study.spec import NoiseProbe, Probe
from whysgd.training.inputs import Inputs
from whysgd.training.loop import Options, Trainer

PLAIN = make_spec(
    model="fc_d3_w8", batch=5, micro_batch=5, epochs=4, penalty=None, clip=None, augment=None, shuffle=False, lr=0.3,
    schedule=make("schedule", "step", unit="run", warmup=0, milestones=(0.25, 0.5), factor=0.5), nesterov=False,
    momentum=0.0,
)  # fmt: skip
SETTINGS = {
    "as simsekli2019": PLAIN,
    "linear hinge": PLAIN.replace(loss="linear_hinge"),
    "own orders": PLAIN.replace(shuffle=True),
    "augmented, momentum": PLAIN.replace(augment=make_spec().augment, shuffle=True, momentum=0.9, nesterov=True),
    "residual network": PLAIN.replace(model="resnet_mini", shuffle=True, momentum=0.9),
    "convolutions": PLAIN.replace(model="conv2", shuffle=True),
    "full batch": make_spec(),
    "all transforms": make_spec(
        penalty=None, clip=None, micro_batch_clip=0.5, ema=0.9, switch=[{"at": 2, "to": 10}], label_smoothing=0.1,
        transform=[{"name": "norm_bias", "strength": 0.001}, {"name": "clip", "limit": 0.3, "norm": "max"},
                   {"name": "gradient_noise", "additive": 0.01, "multiplicative": 0.1}],
    ),
    **{name: RUNS[name].replace(probe=Probe(every=2, micro_batch=3, micro_batches=4))
       for name in ("GN", "FT", "AJ", "UJ", "sampled FT", "IterGraft", "ExterGraft", "NGD")},
}  # fmt: skip


def seeds_of(spec, count=3):
    return with_seeds(spec, *range(count))


def assert_each_is_as_alone(specs, data, passes, steps=8, norms=None):
    """Seeds that share passes of so many micro-batches train and log what each of them does alone."""
    shared = [Trainer(specs, data, Options(together=most), Inputs(norms=norms), dtype=torch.float64) for most in passes]
    own = Inputs(norms=None if norms is None else norms[:1])
    alone = [Trainer([one], data, Options(together=1), own, dtype=torch.float64) for one in specs]
    for _ in range(min(steps, shared[0].total)):
        for trainer in (*shared, *alone):
            trainer.after_step(trainer.step())
    spec = specs[0]
    tolerance = 1e-6 if spec.penalty and not getattr(spec.penalty, "exact", True) else 1e-9
    expected = [trainer.states[0] for trainer in alone]
    assert not torch.equal(expected[0].theta, expected[1].theta)
    for state, theirs in [pair for ours in shared for pair in zip(ours.states, expected, strict=True)]:
        for name in ("theta", "running", "norms"):
            torch.testing.assert_close(getattr(state, name), getattr(theirs, name), rtol=tolerance, atol=tolerance)
        assert (state.step, state.micro_batches, state.ended) == (theirs.step, theirs.micro_batches, theirs.ended)
        assert len(state.history) == len(theirs.history) > 0
        for line, other in zip(state.history, theirs.history, strict=True):
            assert [value is None for value in line.values()] == [value is None for value in other.values()]
            found, wanted = ([v for v in one.values() if v is not None] for one in (line, other))
            assert found == pytest.approx(wanted, rel=1e-6 if tolerance > 1e-9 else 1e-7)


@pytest.mark.parametrize("spec", SETTINGS.values(), ids=SETTINGS)
def test_seeds_follow_each_seed_alone_in_all_that_is_logged(spec):
    norms = torch.tensor(REFERENCE_NORMS).expand(3, -1).numpy() if spec.reference else None
    assert_each_is_as_alone(seeds_of(spec), make_dataset(29, channels=2), (None, 2), norms=norms)


STOPPING = PLAIN.replace(epochs=12, noise=NoiseProbe(points=3, test=True), evaluations=6)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A data set, and the run, to be stopped at an accuracy that some seeds reach before others, and before the end."""
    folder = tmp_path_factory.mktemp("free")
    data = folder_of(make_dataset(40), folder / "data")
    run(seeds_of(STOPPING), data, folder)
    lines = [line.split(",") for line in (folder / "history.csv").read_text().splitlines()]
    column = lines[0].index("train_accuracy")
    best = [max(float(line[column]) for line in lines[1:] if line[0] == str(seed)) for seed in range(3)]
    return data, STOPPING.replace(stop_accuracy=sorted(best)[1])


def test_fully_connected_seeds_leave_together_what_each_leaves_alone_to_the_bit(stopped, tmp_path):
    data, spec = stopped
    metrics = run(seeds_of(spec), data, tmp_path / "together")
    for one, found in zip(seeds_of(spec), metrics, strict=True):
        run(one, data, tmp_path / f"alone-{one.seed}")
        assert_equal_results(results(tmp_path / "together", one.seed), results(tmp_path / f"alone-{one.seed}"))
        assert (found["stopped_at_accuracy"] is None) == (found["steps"] == 96)
    assert len({found["steps"] for found in metrics}) > 1


def test_interrupted_seeds_continue_together_to_the_same_bits(stopped, tmp_path, monkeypatch):
    data, spec = stopped
    assert_continues(seeds_of(spec), data, tmp_path, monkeypatch, 1, 7, 40, 70)


def test_a_checkpoint_serves_the_same_seeds_alone(data, tmp_path, monkeypatch):
    with dying_after(monkeypatch, 7):
        run(seeds_of(PLAIN, 2), data, tmp_path / "run", checkpoint_seconds=1e-9)
    # Other seeds start over, and none takes the weights of another.
    chosen = with_seeds(PLAIN, 0, 2)
    assert [one["sessions"] for one in run(chosen, data, tmp_path / "run")] == [1, 1]
    run(seeds_of(PLAIN), data, tmp_path / "whole")
    for seed in (0, 2):
        assert_equal_results(results(tmp_path / "run", seed), results(tmp_path / "whole", seed))


def test_a_seed_that_diverges_leaves_the_others_alone(data, tmp_path, monkeypatch):
    spec, resume = PLAIN.replace(noise=NoiseProbe(points=2)), Trainer.resume
    run(seeds_of(spec), data, tmp_path / "fine")

    def poisoned(self, states):
        states[1].theta = states[1].theta.clone()
        states[1].theta[0] = torch.nan
        resume(self, states)

    monkeypatch.setattr(Trainer, "resume", poisoned)
    metrics = run(seeds_of(spec), data, tmp_path / "run")
    assert [one["status"] for one in metrics] == ["finished", "diverged", "finished"]
    assert metrics[1]["steps"] == 1
    assert read_metrics(tmp_path / "run/metrics.json") == metrics
    for seed in (0, 2):
        assert_equal_results(results(tmp_path / "run", seed), results(tmp_path / "fine", seed))
    norms = (tmp_path / "run/gradient_norms.csv").read_text().splitlines()
    assert [line for line in norms if line.startswith("1,")] == ["1,1,nan"]
    assert len(norms) == 1 + 20 + 1 + 20


def test_only_seeds_of_one_run_make_a_batch(tmp_path):
    with pytest.raises(ValueError, match="the seeds of one run"):
        run([PLAIN, PLAIN.replace(lr=0.1, seed=1)], tmp_path / "data", tmp_path / "run")
