import pytest
import torch
from conftest import make_spec

from whysgd.study.registry import make
from whysgd.training.transforms import Context, transforms_of

G = torch.tensor([[3.0, 0.0, -4.0], [0.3, 0.4, 0.0]], dtype=torch.float64)
SPECS = {
    "iter_graft": make_spec(clip=None, transform=make("transform", "iter_graft")),
    "exter_graft": make_spec(clip=None, transform=make("transform", "exter_graft", reference="sb")),
    "normalize": make_spec(clip=None, transform=make("transform", "normalize")),
    "clip": make_spec(clip=1.0),
}


def transformed(spec, gradient=G, targets=(1.0, 1.0)):
    norms = torch.tensor(targets, dtype=torch.float64)
    [transform] = transforms_of(spec)
    return transform(gradient, Context(gradient.norm(dim=1), lambda: norms, norms))


@pytest.mark.parametrize("limit", [0.25, 0.51, 4.9, 5.1])
def test_clipping_is_torchs_for_each_seed(limit):
    found = transformed(make_spec(clip=limit))
    for row, expected in zip(found, G, strict=True):
        parameter = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
        parameter.grad = expected.clone()
        torch.nn.utils.clip_grad_norm_([parameter], limit)
        torch.testing.assert_close(row, parameter.grad, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", ["iter_graft", "exter_graft"])
def test_a_graft_keeps_the_direction_and_takes_the_other_norm(name):
    found = transformed(SPECS[name], targets=(0.1, 700.0))
    torch.testing.assert_close(found, torch.tensor([[0.06, 0.0, -0.08], [420.0, 560.0, 0.0]]).double())


def test_normalizing_leaves_the_direction():
    torch.testing.assert_close(
        transformed(SPECS["normalize"]), torch.tensor([[0.6, 0.0, -0.8], [0.6, 0.8, 0.0]]).double()
    )


@pytest.mark.parametrize("name", SPECS)
def test_a_gradient_of_zero_stays_zero(name):
    assert torch.equal(transformed(SPECS[name], torch.zeros(2, 3)), torch.zeros(2, 3))


def test_a_run_without_transforms_has_none():
    assert transforms_of(make_spec(clip=None)) == []
