import math

import pytest
import torch
from measured import Softmax, images, network
from torch.nn import functional as F

from whysgd.measures.accuracy_gap import accuracy_gap
from whysgd.measures.images import Images


def certain(right: int, wrong: int) -> Images:
    """Images of one pixel, for a network that says class 0 with odds of 9 to 1."""
    labels = torch.tensor([0] * right + [1] * wrong)
    return Images(torch.ones(len(labels), 1, 1, 1, dtype=torch.float64), labels)


def test_known_answers():
    model = Softmax([[math.log(9.0)], [0.0]])
    found = accuracy_gap(model, certain(9, 1), certain(3, 1))
    good, bad = -math.log(0.9), -math.log(0.1)
    train, test = 0.9 * good + 0.1 * bad, 0.75 * good + 0.25 * bad
    expected = {
        "train_accuracy": (90, 100 * math.sqrt(0.9 * 0.1 / 10), 10),
        "test_accuracy": (75, 100 * math.sqrt(0.75 * 0.25 / 4), 4),
        "accuracy_gap": (15, 100 * math.sqrt(0.9 * 0.1 / 10 + 0.75 * 0.25 / 4), 14),
        "train_loss": (train, (bad - good) * math.sqrt(0.09 / 9), 10),
        "test_loss": (test, (bad - good) * math.sqrt(0.1875 / 3), 4),
        "loss_gap": (test - train, (bad - good) * math.sqrt(0.01 + 0.0625), 14),
    }
    for name, (value, error, samples) in expected.items():
        assert found[name].value == pytest.approx(value, rel=1e-12)
        assert found[name].std_error == pytest.approx(error, rel=1e-12)
        assert found[name].samples == samples


def test_it_is_measured_in_evaluation_mode_on_all_images():
    model, train, test = network(), images(23, batch=5), images(9, seed=1, batch=5)
    found = accuracy_gap(model, train, test)
    model.eval()
    for name, some in (("train", train), ("test", test)):
        logits = model(some.images)
        assert found[f"{name}_loss"].value == pytest.approx(F.cross_entropy(logits, some.labels).item(), rel=1e-12)
        right = (logits.argmax(1) == some.labels).double().mean().item()
        assert found[f"{name}_accuracy"].value == pytest.approx(100 * right, rel=1e-12)


def test_one_image_has_no_standard_error():
    found = accuracy_gap(Softmax([[1.0], [0.0]]), certain(2, 2), certain(1, 0))
    assert found["test_loss"].std_error is None
    assert found["loss_gap"].std_error is None
