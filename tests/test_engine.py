"""The sums of a step against slow, obvious truths, on uneven micro-batches of several seeds in float64."""

from functools import partial

import pytest
import torch
from networks import dense, grouped, plain_logits, plain_loss, random_batches, smooth_objective
from torch.func import grad
from torch.nn import functional as F

from whysgd.models.build import build_model
from whysgd.streams import stream
from whysgd.study.registry import make
from whysgd.training import engine
from whysgd.training.averaging import micro_batch_weights
from whysgd.training.engine import Engine, Step
from whysgd.training.objective import Objective
from whysgd.training.penalties import penalty_of

# Uneven on purpose: pairs, a single micro-batch, and a smaller last one.
SIZES = [4, 4, 4, 6, 6, 2]
LR, STRENGTH, CLASSES = 0.7, 0.3, 3
SLOW = pytest.param("densenet121", marks=pytest.mark.slow)
NOVACK = ("micro_batch_gradient_norm", "fisher_trace", "average_jacobian", "unit_jacobian")
VARIANTS = ("forward-differences", "central-differences", "exact")
PENALTIES = {
    "none": None,
    **{variant: make("penalty", "gradient_norm", variant=variant) for variant in VARIANTS},
    "full gradient": make("penalty", "gradient_norm", block_strength=0.5, acc_strength=0.4, variant="exact"),
    **{name: make("penalty", name, strength=STRENGTH) for name in NOVACK},
}


def world(seeds=1):
    """An objective, θ (S, P), and the micro-batches of each seed."""
    objective, theta = smooth_objective()
    shifts = 0.1 * torch.randn(seeds, len(theta), dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    return objective, theta + shifts, [random_batches(SIZES, seed=seed + 1) for seed in range(seeds)]


def draws_of(settings, seeds):
    draw = settings and getattr(penalty_of(settings).func, "draw", None)
    if draw is None:
        return None
    every = [torch.from_numpy(draw(stream(s, settings.name, 7), len(SIZES), max(SIZES), CLASSES)) for s in range(seeds)]
    return torch.stack(every)


def measured(settings=None, seeds=1, most=2, averaging="mean", labels_shifted=0, **options):
    """What an engine sums over all micro-batches, and the running statistics' weights."""
    objective, theta, batches = world(seeds)
    batches = [[(x, (y + labels_shifted) % CLASSES) for x, y in own] for own in batches]
    weights, kept = micro_batch_weights(len(SIZES), averaging, torch.float64), objective.statistic_weights(6, theta)
    step = Step(theta, weights, kept, LR, draws=draws_of(settings, seeds))
    groups = grouped(batches, most)
    if getattr(settings, "acc_strength", 0):
        full = Engine(objective, most=most).sums(step, groups).gradient
        step = Step(theta, weights, kept, LR, full_gradient=full)
    before = theta.clone()
    sums = Engine(objective, settings and penalty_of(settings), most, **options).sums(step, groups)
    assert torch.equal(theta, before)
    return sums


def assert_close(found, expected, rtol=1e-9, atol=1e-11):
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=rtol, atol=atol)


def accumulated(gradients, averaging):
    """The average in the form of the released code."""
    total = torch.zeros_like(gradients[0])
    for i, g in enumerate(gradients):
        total = total + (g - total) / (i + 1 if averaging == "mean" else len(gradients))
    return total


@pytest.mark.parametrize(("seeds", "most"), [(1, 1), (1, 3), (2, 1), (2, 2), (2, 6)])
@pytest.mark.parametrize("averaging", ["mean", "historical"])
@pytest.mark.parametrize("strengths", [None, (0.5, 0.0), (0.5, 0.3), (0.0, 0.3)])
def test_the_gradient_of_a_step_is_the_dense_truth(seeds, most, averaging, strengths):
    own = dict(zip(("block_strength", "acc_strength"), strengths or (), strict=False))
    settings = strengths and make("penalty", "gradient_norm", **own, variant="exact")
    objective, theta, batches = world(seeds)
    found = measured(settings, seeds, most, averaging)
    for seed in range(seeds):
        parts = [dense(objective, theta[seed], x, y) for x, y in batches[seed]]
        losses = [plain_loss(objective.model, objective.parameters, theta[seed], x, y) for x, y in batches[seed]]
        torch.testing.assert_close(found.loss[seed], sum(losses), rtol=1e-9, atol=1e-11)
        full = accumulated([g for g, _ in parts], averaging)
        gradients = [g for g, _ in parts]
        if settings:
            gradients = [g + LR / 4 * h @ (strengths[0] * g + strengths[1] * full) for g, h in parts]
            values = sum(strengths[0] * (g @ g) + strengths[1] * (full @ full) for g, _ in parts)
            torch.testing.assert_close(found.penalty[seed], LR / 4 * values, rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(found.gradient[seed], accumulated(gradients, averaging), rtol=1e-9, atol=1e-11)


def squared_norm(name, objective, theta, images, labels, draws):
    """R_B as a function of θ, from its definition."""

    def logits(at):
        return plain_logits(objective.model, objective.parameters, at, images)

    if name == "fisher_trace":
        sums = logits(theta).softmax(-1).cumsum(-1).tolist()
        labels = torch.tensor([sum(u >= s for s in row[:-1]) for row, u in zip(sums, draws.tolist(), strict=False)])
    scores = {
        "micro_batch_gradient_norm": lambda at: F.cross_entropy(logits(at), labels),
        "fisher_trace": lambda at: F.cross_entropy(logits(at), labels),
        "average_jacobian": lambda at: sum(logits(at)[:, c].mean() for c in range(CLASSES)),
        "unit_jacobian": lambda at: sum(logits(at)[:, c].mean() * draws[c] for c in range(CLASSES)),
    }
    return lambda at: grad(scores[name])(at).square().sum()


@pytest.mark.parametrize("name", NOVACK)
@pytest.mark.parametrize(("seeds", "most"), [(1, 1), (1, 3), (2, 4)])
def test_novacks_gradient_is_that_of_the_loss_plus_the_strength_times_the_mean(name, seeds, most):
    objective, theta, batches = world(seeds)
    draws, found = draws_of(PENALTIES[name], seeds), measured(PENALTIES[name], seeds, most)
    for seed in range(seeds):
        gradients, values = [], []
        for i, (x, y) in enumerate(batches[seed]):
            r = squared_norm(name, objective, theta[seed], x, y, None if draws is None else draws[seed, i])
            gradients.append(dense(objective, theta[seed], x, y)[0] + STRENGTH * grad(r)(theta[seed]))
            values.append(STRENGTH * r(theta[seed]))
        torch.testing.assert_close(found.gradient[seed], torch.stack(gradients).mean(0), rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(found.penalty[seed], torch.stack(values).sum(), rtol=1e-10, atol=1e-12)
        assert found.penalty[seed] > 0


@pytest.mark.parametrize("settings", PENALTIES.values(), ids=PENALTIES)
def test_passes_of_any_size_give_the_plain_loops_result(settings):
    loop = measured(settings, 2, 1)
    for most in (2, 3, 5, 12):
        assert_close(measured(settings, 2, most), loop)


@pytest.mark.parametrize("settings", PENALTIES.values(), ids=PENALTIES)
def test_a_penalty_changes_neither_loss_nor_running_statistics_and_stands_alone(settings):
    plain, regularized = measured(None, 2), measured(settings, 2)
    assert_close((regularized.loss, regularized.statistics), (plain.loss, plain.statistics), 1e-12, 1e-12)
    alone = measured(settings, 2, penalty_alone=True) if settings else plain
    assert_close((alone.gradient,), (regularized.gradient - plain.gradient if settings else plain.gradient,))


@pytest.mark.parametrize("name", NOVACK)
def test_only_the_gradient_norm_sees_the_labels(name):
    first, second = (measured(PENALTIES[name], penalty_alone=True, labels_shifted=shift) for shift in (0, 1))
    same = torch.equal(first.gradient, second.gradient) and torch.equal(first.penalty, second.penalty)
    assert same == (name != "micro_batch_gradient_norm")


def test_images_that_all_seeds_share_are_each_seeds_own():
    objective, theta, [batches, _] = world(2)
    step = Step(theta, torch.full((6,), 1 / 6, dtype=torch.float64), objective.statistic_weights(6, theta), LR)
    penalty = penalty_of(PENALTIES["micro_batch_gradient_norm"])
    shared, own = (Engine(objective, penalty, 3).sums(step, grouped([batches] * n, 2)) for n in (1, 2))
    assert_close(shared, own, 1e-12, 1e-12)


def test_a_rank_without_micro_batches_adds_nothing():
    objective, theta, _ = world(2)
    for total in Engine(objective).sums(Step(theta), []):
        assert len(total) == 2
        assert (total == 0).all()


def test_historical_weights_sum_to_the_stated_share_and_grow():
    for n in (1, 2, 7, 390):
        weights = micro_batch_weights(n, "historical", torch.float64)
        assert weights.sum() == pytest.approx(1 - (1 - 1 / n) ** n)
        assert (weights.diff() > 0).all()
        assert micro_batch_weights(n, "mean", torch.float64).sum() == pytest.approx(1)
    with pytest.raises(ValueError, match="allowed: mean, historical"):
        micro_batch_weights(3, "median")


@pytest.mark.parametrize("settings", PENALTIES.values(), ids=PENALTIES)
def test_what_a_compiler_is_given_is_the_readable_pass(monkeypatch, settings):
    monkeypatch.setattr(engine.torch, "compile", lambda traced, **options: traced)
    assert_close(measured(settings, 2, 4, compiled=True), measured(settings, 2, 1))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["forward-differences", "full gradient", "fisher_trace"])
def test_a_compiled_pass_is_the_readable_one(name):
    assert_close(measured(PENALTIES[name], 2, 4, compiled=True), measured(PENALTIES[name], 2, 1))


@pytest.mark.parametrize("model", ["fc_d3_w8", "conv2", "resnet_mini", SLOW])
def test_seeds_of_a_network_of_ours_share_a_pass(model):
    size = 8 if model != "densenet121" else 16
    models = [build_model(model, 2, 3, seed, size).double() for seed in range(3)]
    objective = Objective(models[0])
    theta = torch.stack([objective.parameters.vector(dict(m.named_parameters())).detach() for m in models])
    images = torch.randn(3, 2, 6, 2, size, size, dtype=torch.float64)
    labels = torch.randint(0, 3, (3, 2, 6))
    step = partial(Step, weights=torch.tensor([0.3, 0.7]).double(), kept=torch.ones(2).double())
    together = Engine(objective, most=6).sums(step(theta), [(images, labels)])
    for seed in range(3):
        own = slice(seed, seed + 1)
        plain = Engine(objective)
        plain.gradients = Objective.gradients
        alone = plain.sums(step(theta[own]), [(images[own, i : i + 1], labels[own, i : i + 1]) for i in range(2)])
        assert_close([part[own] for part in together], alone, 1e-8, 1e-10)


def test_without_a_compiler_it_goes_on_and_says_so(monkeypatch, capsys):
    def broken(message):
        def fail(*tensors):
            raise RuntimeError(message)

        return lambda traced, **options: fail

    monkeypatch.setattr(engine.torch, "compile", broken("Cannot find a working triton installation"))
    assert_close(measured(None, 2, 4, compiled=True), measured(None, 2, 1))
    assert capsys.readouterr().err.count("no compiler can be used (Cannot find a working triton installation)") == 1
    # Any other error, even one that speaks of the compiler, is a bug and is shown.
    monkeypatch.setattr(engine.torch, "compile", broken("Cannot view a tensor; see torch.compiler.set_stance"))
    with pytest.raises(RuntimeError, match="Cannot view"):
        measured(None, compiled=True)
