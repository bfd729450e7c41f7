"""The engine of a GPU, on a CPU: fixed places in memory, replays, compiled functions, blocks side by side."""

import pytest
import torch
from conftest import make_dataset, make_spec
from networks import as_stacks, random_blocks, smooth_objective

from whysgd.study.registry import make
from whysgd.training import graphs
from whysgd.training.gradients import StackSums, step_gradient
from whysgd.training.graphs import GraphedSums
from whysgd.training.trainer import Trainer

SIZES = [4, 4, 4, 6, 6, 2]
PENALTIES = {
    "none": None,
    "differences": make("penalty", "gradient_norm"),
    "exact": make("penalty", "gradient_norm", variant="exact"),
    "full gradient": make("penalty", "gradient_norm", block_strength=0.5, acc_strength=0.4, variant="exact"),
}


def replay_eagerly(body):
    """A capture without a GPU: runs the body once, as capturing does, and again at each replay."""
    body()
    return body


def steps(sums, plain, most, count=4):
    """Some steps along a moving θ at a changing rate; every step's blocks are new."""
    objective, start = sums.objective, smooth_objective()[1]
    theta, running, results = start.clone(), torch.zeros(sum(objective.buffers.sizes), dtype=torch.float64), []
    for step in range(count):
        blocks = random_blocks(SIZES, seed=step)
        result = step_gradient(
            sums, theta, running, lambda b=blocks: as_stacks(b, most), len(blocks), 0.3 + step, plain=plain
        )
        results.append([part.clone() for part in (result.gradient, result.loss, result.penalty, result.running)])
        theta.sub_(0.1 * result.gradient)
    return results


@pytest.mark.parametrize("penalty", PENALTIES.values(), ids=PENALTIES.keys())
@pytest.mark.parametrize(("most", "copies", "streams"), [(1, True, False), (2, True, False), (3, False, True)])
def test_replays_give_what_the_readable_engine_gives(penalty, most, copies, streams):
    objective, _ = smooth_objective()
    expected = steps(StackSums(objective, penalty), None, 1)
    engines = [
        GraphedSums(objective, p, copies, None, compiled=False, capture=replay_eagerly, streams=streams)
        for p in (penalty, None)
    ]
    for ours, theirs in zip(steps(*engines, most), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)
    # One capture for each shape: 4, 6 and 2 images, in full stacks and what is left.
    assert len(engines[0].replays) <= 5


def test_another_theta_is_captured_anew():
    objective, theta = smooth_objective()
    sums = GraphedSums(objective, None, True, None, compiled=False, capture=replay_eagerly)
    blocks, running = random_blocks(SIZES), torch.zeros(sum(objective.buffers.sizes), dtype=torch.float64)

    def gradient(engine, at):
        return step_gradient(engine, at, running, lambda: as_stacks(blocks, 2), len(blocks), 0.1).gradient.clone()

    for at in (theta, theta + 0.1):
        torch.testing.assert_close(gradient(sums, at), gradient(StackSums(objective), at), rtol=1e-9, atol=1e-11)


def broken(message):
    """In place of torch.compile."""

    def make(traced, dynamic):
        def fail(*arguments):
            raise RuntimeError(message)

        return fail

    return make


def test_without_a_compiler_it_goes_on_and_says_so(monkeypatch, capsys):
    monkeypatch.setattr(graphs.torch, "compile", broken("Cannot find a working triton installation"))
    spec, dataset = make_spec(penalty=None), make_dataset()
    ours, plain = (Trainer(spec, dataset, engine=engine) for engine in ("compiled", "eager"))
    assert ours.engine_used == "compiled"
    ours.step(), plain.step()
    assert ours.engine_used == "eager"
    assert capsys.readouterr().err.count("no compiler can be used (Cannot find a working triton installation)") == 1
    torch.testing.assert_close(ours.state.theta, plain.state.theta)
    # Any other error, even one that speaks of the compiler, is a bug and is shown.
    monkeypatch.setattr(graphs.torch, "compile", broken("Cannot view a tensor; see torch.compiler.set_stance"))
    with pytest.raises(RuntimeError, match="Cannot view"):
        Trainer(spec, dataset, engine="compiled").step()


DRAWING = {
    "GN": make("penalty", "micro_batch_gradient_norm", strength=0.05),
    "FT": make("penalty", "fisher_trace", strength=0.05),
    "UJ": make("penalty", "unit_jacobian", strength=0.05),
    "sampled FT": make("penalty", "fisher_trace", strength=0.05, sample=4),
}


@pytest.mark.slow
@pytest.mark.parametrize("penalty", [*PENALTIES.values(), *DRAWING.values()], ids=[*PENALTIES, *DRAWING])
def test_a_compiled_step_is_the_readable_one(penalty):
    dataset = make_dataset(train=20)
    spec = make_spec(penalty=penalty, drop_last=True)
    ours, plain = (
        Trainer(spec, dataset, engine=engine, blocks_at_once=k, dtype=torch.float64)
        for engine, k in (("compiled", 2), ("eager", 1))
    )
    for _ in range(3):
        ours.step(), plain.step()
        # The forward difference divides a rounding error by ε, and ReLU kinks amplify it.
        tolerance = 1e-5 if penalty and not penalty.exact else 1e-9
        torch.testing.assert_close(ours.state.theta, plain.state.theta, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(ours.state.running, plain.state.running, rtol=tolerance, atol=tolerance)
