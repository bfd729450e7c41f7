"""The tail index of a network's gradient noise, against gradients that are stored one after another."""

import math

import pytest
import torch
from conftest import ROOT, python
from measured import Softmax, gradient_of, images, network, stored_alpha, vector
from torch.func import functional_call

from whysgd.measures import run
from whysgd.measures.alpha import largest_divisor
from whysgd.measures.estimate import Estimate
from whysgd.measures.images import Images
from whysgd.measures.network import Network
from whysgd.measures.tail_index import micro_batch_gradients, tail_index
from whysgd.measures.untouched import untouched
from whysgd.models.build import build_model


def noise_by_hand(model, some, micro_batch, gradient=gradient_of) -> torch.Tensor:
    """U (P, M) of full blocks, in the order of the images."""
    places = [p for p in torch.arange(len(some)).split(micro_batch) if len(p) == micro_batch]
    gradients = torch.stack([gradient(model, some.images[p], some.labels[p]) for p in places])
    return gradients - gradients.mean(0)


@pytest.mark.parametrize(("n", "micro_batch"), [(43, 4), (43, 7), (43, 10)])
def test_it_is_that_of_stored_gradients(n, micro_batch):
    model, some = network(), images(n, seed=3, batch=9)
    found = tail_index(model, some, micro_batch)
    U = noise_by_hand(model, some, micro_batch)
    assert found["tail_index"].value == pytest.approx(stored_alpha(U), rel=1e-9)
    assert found["tail_index_active"] == found["tail_index"]
    assert found["inactive_parameters"].value == 0
    assert {e.samples for e in found.values()} == {n // micro_batch}
    low, high = found["tail_index"].interval
    assert low < found["tail_index"].value < high
    assert found["inactive_parameters"].interval is None


def dark(n=60, seed=0) -> Images:
    """Images with a black border of one pixel: 20 of 36 pixels."""
    some = images(n, seed, pixels=6)
    some.images[:, :, [0, -1]] = 0
    some.images[:, :, :, [0, -1]] = 0
    return some


def test_black_pixels_are_inactive():
    model, some = Softmax(torch.randn(3, 36, generator=torch.Generator().manual_seed(0))), dark()
    found = tail_index(model, some, 5)
    U = noise_by_hand(model, some, 5)
    seen = some.images.flatten(1).any(0).repeat(3)
    assert seen.sum() == 48
    assert found["inactive_parameters"].value == pytest.approx(100 * 60 / 108)
    assert found["tail_index"].value == pytest.approx(stored_alpha(U), rel=1e-9)
    active = stored_alpha(U[:, seen], largest_divisor(U.numel()))
    assert found["tail_index_active"].value == pytest.approx(active, rel=1e-9)
    assert found["tail_index"].value < 0.5 * found["tail_index_active"].value


def hinge_gradient(model, inputs, labels):
    named = {name: p.detach() for name, p in model.named_parameters()}

    def loss(weights):
        logits = functional_call(model, weights, (inputs,))
        total = 0
        for row, label in zip(logits, labels, strict=True):
            for c, f in enumerate(row):
                total = total + torch.relu(1 - (1 if c == label else -1) * f)
        return total / logits.numel()

    return vector(torch.func.grad(loss)(named).values())


def test_the_noise_is_that_of_the_loss_of_the_run():
    model, some = build_model("fc_d2_w6", 1, 3, 0, 4).double(), images(30)
    hinge = Images(some.images, some.labels, loss="linear_hinge")
    expected = stored_alpha(noise_by_hand(model, some, 5, hinge_gradient))
    assert tail_index(model, hinge, 5)["tail_index"].value == pytest.approx(expected, rel=1e-9)
    assert tail_index(model, some, 5)["tail_index"].value != pytest.approx(expected, rel=1e-3)


def test_without_noise_there_is_no_tail_index():
    some = Images(torch.zeros(8, 1, 1, 1, dtype=torch.float64), torch.zeros(8, dtype=torch.int64))
    for inactive in (100, 0):
        found = tail_index(Softmax([[0.0], [0.0]]), some, 2)
        assert math.isnan(found["tail_index"].value)
        assert math.isnan(found["tail_index_active"].value)
        assert found["tail_index"].std_error is None
        assert found["inactive_parameters"].value == inactive
        some.images += 1


def test_an_interval_is_in_the_json_and_its_open_end_is_null():
    entry = run._jsonable(Estimate(1.5, 0.1, 4, interval=(1.2, math.inf)))
    assert entry == {"value": 1.5, "std_error": 0.1, "samples": 4, "each": [], "interval": [1.2, None]}
    assert "interval" not in run._jsonable(Estimate(1.5, 0.1, 4))


def test_a_large_network_has_one_buffer_for_all_gradients():
    model, some = network(), images(12, batch=1)
    with untouched(model):
        theta = Network(model).theta
        places = {stack.data_ptr() for stack in micro_batch_gradients(Network(model), some, 4)}
        kept = [stack.clone() for stack in micro_batch_gradients(Network(model), some, 4)]
    assert len(places) == 1
    assert [stack.shape for stack in kept] == [(1, len(theta))] * 3
    for stack, place in zip(kept, torch.arange(12).split(4), strict=True):
        assert torch.allclose(stack[0], gradient_of(model, some.images[place], some.labels[place]), rtol=1e-10)


@pytest.mark.slow
def test_the_benchmark_runs(tmp_path):
    small = ["--networks", "fc_d2_w4", "--mini-batches", "4", "--rounds", "1", "--repeats", "2", "--sizes", "1000"]
    python(ROOT / "benchmarks/tail_index.py", *small, cwd=tmp_path)
    names = {f"tail_index_{part}" for part in ("samples", "intervals", "cost", "memory")}
    assert {file.stem for file in tmp_path.glob("results/benchmarks/*.md")} == names
