import math

import pytest
import torch
from measured import Softmax, images, loss_of, network, vector

from whysgd.measures.directions import filter_normalized
from whysgd.measures.flatness import flatness
from whysgd.measures.images import Images


def one_class(weight: float) -> tuple[Softmax, Images]:
    """Logits (w, 0) and label 0: the loss is log(1 + exp(−w)), and d = (±w, 0)."""
    ones, labels = torch.ones(4, 1, 1, 1, dtype=torch.float64), torch.zeros(4, dtype=torch.int64)
    return Softmax([[weight], [0.0]]), Images(ones, labels, seed=3)


def test_the_distance_of_a_known_function():
    model, some = one_class(2.0)
    found = flatness(model, some, directions=6)["flatness"]
    start = math.log1p(math.exp(-2))
    # Upwards the loss falls for ever; downwards w (1 − t) must reach this.
    needed = 1 + math.log(math.exp(start + 1) - 1) / 2
    down = math.ceil(needed / 0.1) * 0.1
    expected = [5.0 if filter_normalized(model, 3, i)["weight"][0, 0] > 0 else down for i in range(6)]
    assert {5.0, down} == set(expected)
    assert found.each == pytest.approx(expected, rel=1e-12)
    assert found.value == pytest.approx(sum(expected) / 6, rel=1e-12)
    assert found.std_error == pytest.approx(torch.tensor(expected).std().item() / math.sqrt(6), rel=1e-6)
    assert found.samples == 6


@pytest.mark.parametrize("step", [0.1, 0.03])
def test_distances_are_those_of_the_loss_along_the_direction(step):
    model, some = network(), images(23, batch=5, seed=4)
    found = flatness(model, some, threshold=0.2, step=step, directions=3, limit=4.0)["flatness"]
    loss, theta = loss_of(model, some.images, some.labels)
    for i, distance in enumerate(found.each):
        way = vector(filter_normalized(model, 4, i).values())
        count = 1
        while loss(theta + count * step * way) < loss(theta) + 0.2 and count * step < 4:
            count += 1
        assert distance == pytest.approx(min(count * step, 4.0), rel=1e-12)
    assert 0 < min(found.each) < 4


@pytest.mark.parametrize("threshold", [0.5, 3.0, 6.0, 100.0])
def test_the_released_flatness_counts_steps_until_the_loss_itself_is_above(threshold):
    """The network's own loss, about 5 nats, is above 0.5 and 3 before the first step; no loss is above 100."""
    model, some = network(), images(23, batch=5, seed=4)
    found = flatness(model, some, threshold=threshold, directions=3, limit=2.0)["released_flatness"]
    loss, theta = loss_of(model, some.images, some.labels)
    counts = []
    for i, distance in enumerate(found.each):
        way, count = vector(filter_normalized(model, 4, i).values()), 0
        while loss(theta + count * 0.1 * way) <= threshold and count < 20:
            count += 1
        assert distance == pytest.approx(way.norm().item() * count, rel=1e-12)
        counts.append(count)
    assert max(counts) == {0.5: 0, 100.0: 20}.get(threshold, max(counts))


def test_a_distance_beyond_the_limit_counts_as_the_limit():
    found = flatness(network(), images(), threshold=1e6, directions=2, limit=0.4)["flatness"]
    assert (found.value, found.each, found.std_error) == (0.4, (0.4, 0.4), 0.0)


def test_a_loss_that_is_not_finite_has_risen():
    class Breaks(Softmax):
        def forward(self, inputs):
            out = super().forward(inputs)
            return out if out[0, 0] == 2.0 else out * math.nan

    found = flatness(Breaks([[2.0], [0.0]]), one_class(2.0)[1], directions=2)["flatness"]
    assert found.each == pytest.approx((0.1, 0.1))


def test_only_the_first_images_can_be_used():
    model, some = network(), images(23)
    few = flatness(model, some, threshold=0.2, directions=2, step=0.05, first=7)
    assert few == flatness(model, some.first(7), threshold=0.2, directions=2, step=0.05)
    assert few != flatness(model, some, threshold=0.2, directions=2, step=0.05)
