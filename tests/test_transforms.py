import pytest
import torch
from test_novack import RUNS

from whysgd.study.registry import find, make
from whysgd.training.transforms import Context, transforms_of

G = torch.tensor([3.0, 0.0, -4.0], dtype=torch.float64)


def context(target=None, gradient=G):
    return Context(gradient.norm(), 0, None if target is None else torch.tensor(target, dtype=torch.float64))


def transformed(name, gradient, context, **options):
    return find("transform", name)(gradient, context, make("transform", name, **options))


def test_clipping_is_torchs():
    for limit in (0.25, 4.9, 5.1):
        parameter = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
        parameter.grad = G.clone()
        torch.nn.utils.clip_grad_norm_([parameter], limit)
        torch.testing.assert_close(transformed("clip", G, context(), limit=limit), parameter.grad, rtol=1e-12, atol=0)


@pytest.mark.parametrize("target", [0.1, 5.0, 700.0])
def test_a_graft_keeps_the_direction_and_takes_the_other_norm(target):
    torch.testing.assert_close(transformed("iter_graft", G, context(target)), target * torch.tensor([0.6, 0.0, -0.8]).double())


def test_normalizing_leaves_the_direction():
    torch.testing.assert_close(transformed("normalize", G, context()), torch.tensor([0.6, 0.0, -0.8]).double())


@pytest.mark.parametrize("name", ["iter_graft", "exter_graft", "normalize"])
def test_a_gradient_of_zero_stays_zero(name):
    zero = torch.zeros(3)
    assert torch.equal(transformed(name, zero, context(2.0, zero), **({"reference": "r"} if name == "exter_graft" else {})), zero)


def test_runs_have_the_transform_that_they_name():
    assert [t.func.__name__ for t in transforms_of(RUNS["IterGraft"]) + transforms_of(RUNS["NGD"])] == ["iter_graft", "normalize"]
    assert transforms_of(RUNS["LB"]) == []
