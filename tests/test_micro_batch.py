"""novack2023's penalties against the dense, obvious computation, on uneven micro-batches in float64."""

import inspect
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import make_spec
from networks import as_stacks, plain_logits, random_blocks, smooth_objective
from torch.func import grad
from torch.nn import functional as F

from whysgd.streams import stream
from whysgd.study.spec import MICRO_BATCH_PENALTIES, MicroBatchPenalty
from whysgd.training.gradients import StackSums, step_gradient
from whysgd.training.graphs import GraphedSums
from whysgd.training.micro_batch import MICRO_BATCH, SCORES, penalty_noise, predicted_labels

SIZES = [4, 4, 4, 6, 6, 2]
STRENGTH, CLASSES, SEED, STEP = 0.3, 3, 5, 7


def noise_of(name):
    like = torch.zeros((), dtype=torch.float64)
    return penalty_noise(MicroBatchPenalty(name, STRENGTH), SEED, STEP, len(SIZES), max(SIZES), CLASSES, like)


def measured(name, most=2, blocks=None, engine=StackSums, **options):
    objective, theta = smooth_objective()
    blocks = blocks or random_blocks(SIZES)
    running = torch.rand(sum(objective.buffers.sizes), dtype=torch.float64)
    sums = engine(objective, MicroBatchPenalty(name, STRENGTH) if name else None, **options)
    noise = noise_of(name) if name else None
    return step_gradient(sums, theta, running, lambda: as_stacks(blocks, most), len(blocks), 0.7, noise=noise)


def drawn(probabilities, uniform):
    """The class at which the distribution function passes the uniform number, one image after another."""
    for c in range(len(probabilities)):
        if uniform < sum(probabilities[: c + 1]):
            return c
    return len(probabilities) - 1


def squared_norm(name, objective, theta, images, labels, noise):
    """R_B as a function of θ, from its definition."""

    def logits(at):
        return plain_logits(objective.model, objective.parameters, at, images)

    if name == "fisher_trace":
        probabilities = logits(theta).softmax(-1).tolist()
        labels = torch.tensor([drawn(p, u) for p, u in zip(probabilities, noise.tolist(), strict=False)])
    scores = {
        "micro_batch_gradient_norm": lambda at: F.cross_entropy(logits(at), labels),
        "fisher_trace": lambda at: F.cross_entropy(logits(at), labels),
        "average_jacobian": lambda at: sum(logits(at)[:, c].mean() for c in range(CLASSES)),
        "unit_jacobian": lambda at: sum(logits(at)[:, c].mean() * noise[c] for c in range(CLASSES)),
    }
    return lambda at: sum(g.square().sum() for g in [grad(scores[name])(at)])


@pytest.mark.parametrize("name", MICRO_BATCH_PENALTIES)
@pytest.mark.parametrize("most", [1, 2, 3])
def test_the_gradient_is_that_of_the_loss_plus_the_strength_times_the_mean(name, most):
    objective, theta = smooth_objective()
    noise = noise_of(name)
    gradients, values = [], []
    for i, (images, labels) in enumerate(random_blocks(SIZES)):
        r = squared_norm(name, objective, theta, images, labels, None if noise is None else noise[i])
        loss = grad(
            lambda at, x=images, y=labels: F.cross_entropy(
                plain_logits(objective.model, objective.parameters, at, x), y
            )
        )
        gradients.append(loss(theta) + STRENGTH * grad(r)(theta))
        values.append(STRENGTH * r(theta))
    result = measured(name, most)
    torch.testing.assert_close(result.gradient, torch.stack(gradients).mean(0), rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(result.penalty, torch.stack(values).mean(), rtol=1e-10, atol=1e-12)
    assert result.penalty > 0


@pytest.mark.parametrize("name", MICRO_BATCH_PENALTIES)
def test_running_statistics_and_the_loss_are_those_without_a_penalty(name):
    plain, penalized = measured(None), measured(name)
    torch.testing.assert_close(penalized.running, plain.running, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(penalized.loss, plain.loss, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", MICRO_BATCH_PENALTIES)
def test_the_penalty_alone_is_the_difference_between_with_and_without(name):
    alone = measured(name, penalty_alone=True)
    torch.testing.assert_close(alone.gradient, measured(name).gradient - measured(None).gradient, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", MICRO_BATCH_PENALTIES)
def test_only_the_gradient_norm_sees_the_labels(name):
    blocks = random_blocks(SIZES)
    others = [(images, (labels + 1) % CLASSES) for images, labels in blocks]
    first, second = (measured(name, blocks=b, penalty_alone=True) for b in (blocks, others))
    same = torch.equal(first.gradient, second.gradient) and torch.equal(first.penalty, second.penalty)
    assert same == (name != "micro_batch_gradient_norm")


def test_scores_are_not_given_labels():
    assert set(SCORES) == set(MICRO_BATCH_PENALTIES) - {"micro_batch_gradient_norm"}
    assert set(MICRO_BATCH) == set(MICRO_BATCH_PENALTIES)
    assert all(len(inspect.signature(score).parameters) == 2 for score in SCORES.values())


@pytest.mark.parametrize("name", MICRO_BATCH_PENALTIES)
def test_fixed_places_in_memory_give_the_same(name):
    expected = measured(name)
    fixed = measured(name, engine=GraphedSums, compiled=False, capture=lambda body: body)
    for key in ("gradient", "loss", "penalty", "running"):
        torch.testing.assert_close(getattr(fixed, key), getattr(expected, key), rtol=1e-10, atol=1e-12)


def test_labels_follow_the_predictive_distribution():
    logits = torch.tensor([[[2.0, 0.0, -1.0], [0.0, 0.0, 3.0]]], dtype=torch.float64)
    draws = 40_000
    uniform = torch.from_numpy(stream(0, "test").random((1, 2 * draws)))
    labels = predicted_labels(logits.repeat(1, draws, 1), uniform).view(draws, 2)
    for image in range(2):
        expected = logits[0, image].softmax(-1)
        found = torch.bincount(labels[:, image], minlength=3) / draws
        # Five standard errors.
        assert (found - expected).abs().max() < 5 * 0.5 / draws**0.5
    # A uniform number that rounding has made 1, or sums that rounding has left below it.
    assert predicted_labels(logits, torch.ones(1, 2, dtype=torch.float64)).max() == 2


def test_noise_comes_from_streams_of_its_own_that_depend_on_seed_step_and_penalty():
    like = torch.zeros(())

    def draw(name="fisher_trace", seed=SEED, step=STEP):
        return penalty_noise(MicroBatchPenalty(name, 1.0), seed, step, 4, 6, CLASSES, like)

    assert draw().shape == (4, 6)
    assert draw("unit_jacobian").shape == (4, CLASSES)
    torch.testing.assert_close(draw("unit_jacobian").norm(dim=1), torch.ones(4))
    assert torch.equal(draw(), draw())
    assert not torch.equal(draw(), draw(step=STEP + 1))
    assert not torch.equal(draw(), draw(seed=SEED + 1))
    assert len(np.unique(draw("unit_jacobian").numpy())) == 4 * CLASSES
    assert draw("average_jacobian") is draw("micro_batch_gradient_norm") is None


def test_unit_vectors_point_everywhere():
    many = penalty_noise(MicroBatchPenalty("unit_jacobian", 1.0), 0, 0, 20_000, 1, CLASSES, torch.zeros(()))
    assert many.mean(0).abs().max() < 0.02
    torch.testing.assert_close(many.T @ many / len(many), torch.eye(CLASSES) / CLASSES, rtol=0, atol=0.02)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [({"strength": -1.0}, "penalty.strength = -1.0"), ({"sample": 0}, "penalty.sample = 0")],
)
def test_impossible_settings_are_refused(changes, problem):
    with pytest.raises(ValueError, match=problem):
        make_spec(penalty=replace(MicroBatchPenalty("fisher_trace", 1.0), **changes))
