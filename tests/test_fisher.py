import math

import pytest
import torch
from measured import Softmax, gradient_of, images, network, softmax

from whysgd.measures import network as network_module
from whysgd.measures.fisher import fisher
from whysgd.measures.images import Images
from whysgd.streams import stream


def norms(model, some) -> tuple[torch.Tensor, torch.Tensor]:
    """Of each image: ‖∇ log p(y|x)‖² and p(y|x) for every class y (n, classes), one gradient after another."""
    model = model.eval()
    chances = model(some.images).softmax(1).detach()
    labels = torch.arange(chances.shape[1]).split(1)
    rows = [[gradient_of(model, x[None], y).square().sum().item() for y in labels] for x in some.images]
    return torch.tensor(rows, dtype=torch.float64), chances


def test_logistic_regression_has_a_known_trace():
    """∇ log p(y|x) = (e_y − p) ⊗ x, so that E ‖·‖² = ‖x‖² (1 − ‖p‖²)."""
    model, some = softmax(), images(11)
    p = model(some.images).softmax(1).detach()
    each = some.images.flatten(1).square().sum(1) * (1 - p.square().sum(1))
    found = fisher(model, some, exact=True)["fisher_trace"]
    assert found.value == pytest.approx(each.mean().item(), rel=1e-12)
    assert found.std_error == pytest.approx(each.std().item() / math.sqrt(11), rel=1e-9)
    assert (found.samples, found.each) == (11, ())


def test_both_ways_are_those_of_explicit_gradients():
    model, some = network(), images(11, seed=3, batch=4)
    truth, chances = norms(network(), some)
    exact = fisher(model, some, exact=True)["fisher_trace"]
    assert exact.value == pytest.approx((truth * chances).sum(1).mean().item(), rel=1e-10)
    u = stream(3, "fisher-labels").random(11)
    drawn = [next(y for y in range(3) if u[i] < chances[i, : y + 1].sum()) for i in range(11)]
    assert len(set(drawn)) > 1
    expected = torch.stack([truth[i, y] for i, y in enumerate(drawn)])
    sampled = fisher(model, some, exact=False)["fisher_trace"]
    assert sampled.value == pytest.approx(expected.mean().item(), rel=1e-10)
    assert sampled.std_error == pytest.approx(expected.std().item() / math.sqrt(11), rel=1e-9)


def test_drawn_labels_give_the_sum_over_classes_within_the_error():
    model, some = network(), images(3000)
    exact, drawn = (fisher(model, some, exact=exact, first=None)["fisher_trace"] for exact in (True, False))
    assert abs(exact.value - drawn.value) < 4 * drawn.std_error
    assert drawn.std_error < 0.05 * drawn.value


def test_the_data_sets_labels_do_not_enter():
    model, some = network(), images(11)
    others = Images(some.images, (some.labels + 1) % 3)
    assert fisher(model, some) == fisher(model, others)


def test_a_network_too_large_for_many_gradients_at_once_is_taken_image_by_image(monkeypatch):
    model, some = network(), images(11)
    expected = [fisher(model, some, exact)["fisher_trace"].value for exact in (False, True)]
    monkeypatch.setattr(network_module, "NUMBERS_AT_ONCE", 10)
    found = [fisher(model, some, exact)["fisher_trace"].value for exact in (False, True)]
    assert found == pytest.approx(expected, rel=1e-12)


def test_at_most_a_thousand_images_are_used_unless_it_is_said():
    model = Softmax(torch.zeros(3, 1))
    some = images(1003, pixels=1)
    assert fisher(model, some) == fisher(model, some.first(1000))
    assert fisher(model, some, first=None)["fisher_trace"].samples == 1003
