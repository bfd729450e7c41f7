import math

import numpy as np
import pytest
import torch
from measured import Softmax, gradient_of, images, network

from whysgd.measures.gradient_noise import gradient_noise, group_sums, jackknife, noise_statistics
from whysgd.measures.images import Images
from whysgd.measures.network import Network
from whysgd.measures.untouched import untouched
from whysgd.streams import stream


def micro_batch_gradients(model, some, micro_batch) -> torch.Tensor:
    """One after another (k, P), in the measure's order."""
    order = torch.from_numpy(stream(some.seed, "noise-order").permutation(len(some)))
    full = [places for places in order.split(micro_batch) if len(places) == micro_batch]
    return torch.stack([gradient_of(model, some.images[p], some.labels[p]) for p in full])


def direct(gradients, b) -> dict[str, float]:
    """By the definitions, with the sample covariance in place of McCandlish's differences."""
    k, mean = len(gradients), gradients.mean(0)
    covariance = b * ((gradients - mean) ** 2).sum().item() / (k - 1)
    signal = (mean @ mean).item() - covariance / (k * b)
    return {
        "gradient_norm2": (mean @ mean).item(),
        "micro_batch_gradient_norm2": (gradients**2).sum(1).mean().item(),
        "gradient_covariance_trace": covariance,
        "gradient_noise_scale": covariance / signal,
        "gradient_signal_to_noise": signal * b / covariance,
        "gradient_mean_to_deviation": (mean.norm() / gradients.std(0).norm()).item(),
    }


def test_the_numbers_are_those_of_stored_gradients():
    model, some = network(), images(43, seed=3, batch=9)
    found = gradient_noise(model, some, micro_batch=4)
    for name, value in direct(micro_batch_gradients(model, some, 4), 4).items():
        value = math.nan if name == "gradient_noise_scale" and value <= 0 else value
        assert found[name].value == pytest.approx(value, rel=1e-9, nan_ok=True)
        assert found[name].samples == 10


@pytest.mark.parametrize(("n", "groups"), [(40, 20), (43, 3), (40, 4)])
def test_errors_are_the_jackknifes_by_brute_force(n, groups):
    model, some = network(), images(n, seed=3)
    found = gradient_noise(model, some, micro_batch=4, groups=groups)
    gradients = micro_batch_gradients(model, some, 4)
    k, g = 10, min(groups, 10)
    group = np.arange(k) * g // k
    whole = direct(gradients, 4)
    without = [direct(gradients[group != j], 4) for j in range(g)]
    for name, estimate in found.items():
        if math.isnan(estimate.value):
            continue
        values = [one[name] for one in without]
        if k % g == 0:
            # Groups of one size: the textbook's formula, but for the centre.
            variance = (g - 1) / g * sum((v - np.mean(values)) ** 2 for v in values)
            assert estimate.std_error == pytest.approx(math.sqrt(variance), rel=1e-9)
        sizes = [int((group == j).sum()) for j in range(g)]
        assert estimate.std_error == pytest.approx(jackknife(whole[name], values, sizes), rel=1e-9)


def test_the_jackknife_of_a_mean_is_its_standard_error():
    values = np.random.default_rng(0).standard_normal(12)
    without = [np.delete(values, i).mean() for i in range(12)]
    expected = values.std(ddof=1) / math.sqrt(12)
    assert jackknife(values.mean(), without, [1] * 12) == pytest.approx(expected, rel=1e-12)
    # Groups of unequal size: right on average.
    errors, random = [], np.random.default_rng(1)
    parts = np.split(np.arange(20), [3, 6, 8, 10, 13, 15, 18])
    for _ in range(4000):
        values = random.standard_normal(20)
        without = [np.delete(values, part).mean() for part in parts]
        errors.append(jackknife(values.mean(), without, [len(part) for part in parts]) ** 2)
    assert np.mean(errors) == pytest.approx(1 / 20, rel=0.05)


def test_estimates_are_unbiased():
    """Gradients with mean μ and covariance Σ of one image: E S = tr Σ, E G = ‖μ‖²."""
    random, b, k = np.random.default_rng(0), 5, 8
    mean, spread = np.array([0.3, -0.2, 0.1]), np.array([1.0, 2.0, 0.5])
    found = []
    for _ in range(4000):
        g = mean + spread * random.standard_normal((k, b, 3)).mean(1)
        one = noise_statistics((g**2).sum(), (g.sum(0) ** 2).sum(), k, b)
        signal = one["gradient_signal_to_noise"] * one["gradient_covariance_trace"] / b
        found.append([one["gradient_covariance_trace"], signal])
    average, error = np.mean(found, 0), np.std(found, 0) / math.sqrt(len(found))
    assert abs(average - [(spread**2).sum(), (mean**2).sum()]) == pytest.approx([0, 0], abs=4 * error.max())
    assert average[0] == pytest.approx((spread**2).sum(), rel=0.02)


def test_softmax_regression_has_a_known_noise():
    """At W = 0 an image's gradient is (p − e_y) ⊗ x: with x = 1 and two classes (±½, ∓½), of squared norm ½."""
    labels = torch.tensor([0] * 300 + [1] * 100)
    some = Images(torch.ones(400, 1, 1, 1, dtype=torch.float64), labels)
    found = gradient_noise(Softmax([[0.0], [0.0]]), some, micro_batch=1)
    assert found["micro_batch_gradient_norm2"].value == pytest.approx(0.5)
    assert found["gradient_norm2"].value == pytest.approx(0.125)
    assert found["gradient_covariance_trace"].value == pytest.approx(0.375 * 400 / 399)
    signal = 0.5 - 0.375 * 400 / 399
    assert found["gradient_noise_scale"].value == pytest.approx(0.375 * 400 / 399 / signal)
    assert found["gradient_signal_to_noise"].value == pytest.approx(signal / (0.375 * 400 / 399))
    assert found["micro_batch_gradient_norm2"].std_error == pytest.approx(0, abs=1e-12)


def test_a_gradient_lost_in_noise_has_no_noise_scale():
    labels = torch.tensor([0, 1] * 20)
    some = Images(torch.ones(40, 1, 1, 1, dtype=torch.float64), labels)
    found = gradient_noise(Softmax([[0.0], [0.0]]), some, micro_batch=1)
    assert math.isnan(found["gradient_noise_scale"].value)
    assert found["gradient_noise_scale"].std_error is None
    assert found["gradient_signal_to_noise"].value < 0


def test_identical_images_have_no_noise():
    some = Images(torch.ones(8, 1, 1, 1, dtype=torch.float64), torch.zeros(8, dtype=torch.int64))
    found = gradient_noise(Softmax([[0.0], [0.0]]), some, micro_batch=2)
    assert found["gradient_covariance_trace"].value == 0
    assert math.isnan(found["gradient_signal_to_noise"].value)


def test_two_blocks_have_no_standard_error():
    found = gradient_noise(network(), images(9), micro_batch=4)
    assert {e.std_error for e in found.values()} == {None}


def test_every_block_is_in_one_group():
    model, some = network(), images(31, batch=7)
    with untouched(model):
        norms, sums, sizes = group_sums(Network(model), some, 3, 4)
    gradients = micro_batch_gradients(model, some, 3)
    assert sizes == [3, 2, 3, 2]
    assert torch.allclose(sums[1], gradients[3:5].sum(0), rtol=1e-10)
    assert norms[3] == pytest.approx((gradients[8:] ** 2).sum().item(), rel=1e-10)
