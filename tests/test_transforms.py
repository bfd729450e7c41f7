import pytest
import torch
from conftest import make_spec

from whysgd.streams import stream
from whysgd.study.registry import make
from whysgd.training import transforms
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


@pytest.mark.parametrize("name", SPECS)
def test_a_gradient_of_zero_stays_zero(name):
    assert torch.equal(transformed(SPECS[name], torch.zeros(2, 3)), torch.zeros(2, 3))


def test_a_run_without_transforms_has_none():
    assert transforms_of(make_spec(clip=None)) == []


def chain(*chosen, theta=G + 1, seeds=(3, 4), step=7):
    """What transforms make of G, one after another, and what the history records."""
    context = Context(G.norm(dim=1), theta=theta, seeds=seeds, step=step)
    several = transforms_of(make_spec(clip=None, transform=list(chosen)))
    return transforms.transformed(several, G, context), context.line


def test_clipping_in_the_maximum_norm():
    found, line = chain(make("transform", "clip", limit=1.0, norm="max"))
    torch.testing.assert_close(found, torch.stack([G[0] / (4 + 1e-6), G[1]]), rtol=1e-12, atol=0)
    assert line["clipped"].tolist() == [True, False]
    again = transforms_of(make_spec(clip=1.0, clip_norm="max"))
    assert torch.equal(transforms.transformed(again, G, Context(G.norm(dim=1))), found)


@pytest.mark.parametrize("bias", [0.0, 4.0])
def test_the_norm_bias_is_added_to_every_entry_or_along_the_weights(bias):
    theta = G + 1
    for kind in (1, 2):
        found, _ = chain(make("transform", "norm_bias", strength=0.1, bias=bias, norm_type=kind))
        for row, gradient, weights in zip(found, G, theta, strict=True):
            excess = sum(w**2 for w in weights.tolist()) - bias**2
            added = [(excess > 0) - (excess < 0)] * 3 if kind == 1 else [2 * excess * w for w in weights.tolist()]
            expected = gradient + 0.1 * torch.tensor(added, dtype=torch.float64)
            torch.testing.assert_close(row, expected, rtol=1e-12, atol=1e-15)


def test_noise_is_drawn_for_each_seed_and_step_whoever_shares_the_pass():
    noise = make("transform", "gradient_noise", additive=0.5, multiplicative=0.25)
    found, _ = chain(noise)
    for row, (seed, gradient) in enumerate(zip((3, 4), G, strict=True)):
        random = stream(seed, "gradient_noise", 7)
        first, second = (torch.from_numpy(random.standard_normal(3, dtype="f4")).double() for _ in range(2))
        torch.testing.assert_close(found[row], (gradient + 0.5 * first) * (1 + 0.25 * second), rtol=1e-12, atol=0)
    assert not torch.equal(found, chain(noise, step=8)[0])
    drawn = torch.stack([chain(make("transform", "gradient_noise", additive=2.0), step=i)[0] - G for i in range(2000)])
    assert abs(drawn.mean()) < 0.1
    assert drawn.std() == pytest.approx(2.0, rel=0.05)


def test_several_transforms_follow_one_another():
    bias, clip = make("transform", "norm_bias", strength=9.0), make("transform", "clip", limit=1.0)
    found, line = chain(bias, clip)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(2).double(), rtol=1e-5, atol=0)
    assert line["clipped"].all()
    other, line = chain(clip, bias)
    assert line["clipped"].tolist() == [True, False]
    assert not torch.allclose(found, other)
    spec = make_spec(clip=None, transform=[{"name": "normalize"}, {"name": "exter_graft", "reference": "sb"}])
    assert type(spec).from_dict(spec.to_dict()) == spec
    assert spec.reference == "sb"
    assert [name for kind, name in spec.parts if kind == "transform"] == ["normalize", "exter_graft"]
    with pytest.raises(ValueError, match=r"transform\[1\].limit = 0: must be above 0"):
        type(spec).from_dict({**spec.to_dict(), "transform": [{"name": "normalize"}, {"name": "clip", "limit": 0}]})
    with pytest.raises(ValueError, match=r"transform\[0\] = .*: must be a mapping"):
        type(spec).from_dict({**spec.to_dict(), "transform": ["clip"]})
