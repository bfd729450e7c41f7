"""What holds for every measure: its keys, that it changes nothing, that batches do not matter."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from measured import images, network

from whysgd.measures.catalog import MEASURES
from whysgd.measures.directions import filter_normalized
from whysgd.measures.landscape import FullLoss, grid, landscape
from whysgd.measures.untouched import untouched
from whysgd.study.registry import find

OPTIONS = {
    "keskar": {"epsilon": 1e-2, "lr": 0.1, "steps": 7, "batch": 5}, "flatness": {"threshold": 0.2, "directions": 2},
    "hessian": {"products": 8, "probes": 3}, "gradient_noise": {"micro_batch": 4}, "tail_index": {"micro_batch": 4},
    "accuracy_gap": {}, "fisher": {},
}  # fmt: skip


def measure(name, model, some):
    """What a measure of the catalog finds, with options that are quick."""
    tests = [images(11, seed=5, batch=some.batch)] if name == "accuracy_gap" else []
    return find("measure", name)(model, some, *tests, **OPTIONS[name])


def look(model, some):
    way = filter_normalized(model, 0)
    return landscape(model, some, grid("line", 3), [way], FullLoss((0.1, ()), 0.5, 0.1), 4)


@pytest.mark.parametrize("name", MEASURES)
def test_a_measure_gives_the_quantities_of_the_catalog(name):
    assert OPTIONS.keys() == MEASURES.keys()
    found = measure(name, network(), images())
    assert list(found) == list(MEASURES[name])
    for estimate in found.values():
        assert math.isfinite(estimate.value)
        assert estimate.samples > 1
        assert estimate.std_error >= 0


@pytest.mark.parametrize("call", [*(partial(measure, name) for name in MEASURES), look], ids=[*MEASURES, "landscape"])
def test_measuring_leaves_everything_as_it_was(call):
    model = network()
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    some = images()
    torch.manual_seed(1)
    np.random.seed(1)

    def everything():
        tensors = [t.clone() for t in (*model.state_dict().values(), *(p.grad for p in model.parameters()))]
        modes = [module.training for module in model.modules()]
        return tensors, modes, [some.images.clone(), torch.get_rng_state()], np.random.get_state()[1].tolist()

    parameters, gradients = list(model.parameters()), [p.grad for p in model.parameters()]
    before = everything()
    with torch.no_grad():
        call(model, some)
    after = everything()
    for i in (0, 2):
        assert all(torch.equal(a, b) for a, b in zip(before[i], after[i], strict=True))
    assert (before[1], before[3]) == (after[1], after[3])
    assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True))
    assert all(p.grad is g for p, g in zip(parameters, gradients, strict=True))
    assert all(p.requires_grad and p.is_leaf for p in parameters)


@pytest.mark.parametrize("name", MEASURES)
def test_neither_batches_nor_what_was_before_matter(name):
    model = network()
    whole, parts, other = (measure(name, model, images(batch=batch)) for batch in (1000, 5, 1))
    for key, estimate in whole.items():
        for one in (parts[key], other[key]):
            assert one.value == pytest.approx(estimate.value, rel=1e-10)
            assert one.std_error == pytest.approx(estimate.std_error, rel=1e-7, abs=1e-12)


@pytest.mark.parametrize("name", MEASURES)
def test_a_measure_works_in_the_precision_of_the_network(name):
    half = measure(name, network().float(), images())
    for key, estimate in measure(name, network(), images()).items():
        assert half[key].value == pytest.approx(estimate.value, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("name", MEASURES)
def test_a_network_that_has_diverged_is_measured_as_nan(name):
    model = network()
    with torch.no_grad():
        model.head.weight.fill_(math.nan)
    found = measure(name, model, images())
    assert all(math.isnan(e.value) for key, e in found.items() if "accuracy" not in key)
    assert all(e.std_error is None for key, e in found.items() if "accuracy" not in key)


REFUSED = {
    "flatness": ([{"threshold": 0}, {"step": 0}, {"directions": 0}, {"limit": 0.05}], "must be above 0"),
    "gradient_noise": (
        [{"micro_batch": 12}, {"micro_batch": 0}, {"micro_batch": 2, "groups": 1}], "at least two of them and two groups",
    ),
    "hessian": ([{"products": 3}, {"probes": 0}], "are needed"),
    "keskar": ([{"ascents": 0}], "ascents = 0: must be above 0"),
    "tail_index": ([{"micro_batch": 12}, {"micro_batch": 0}, {"micro_batch": 100}], "two are needed"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_impossible_settings_are_refused(name):
    settings, message = REFUSED[name]
    for wrong in settings:
        with pytest.raises(ValueError, match=message):
            find("measure", name)(network(), images(), **wrong)


def test_everything_is_restored_after_an_error():
    model = network()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    modes = [module.training for module in model.modules()]

    def fail():
        with untouched(model), torch.no_grad():
            assert not any(module.training for module in model.modules())
            for t in (*model.parameters(), *model.buffers()):
                t.zero_()
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert modes == [module.training for module in model.modules()]
