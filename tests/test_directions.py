import pytest
import torch

from whysgd.measures.directions import filter_normalized
from whysgd.models.build import build_model
from whysgd.streams import stream


@pytest.fixture
def model():
    return build_model("resnet_mini", 1, 10, 0, 8).double()


def test_every_filter_has_the_norm_of_the_networks(model):
    direction = filter_normalized(model, seed=3)
    assert list(direction) == [name for name, _ in model.named_parameters()]
    for name, p in model.named_parameters():
        d = direction[name]
        assert (d.shape, d.dtype, d.requires_grad) == (p.shape, p.dtype, False)
        for one, its in zip(d, p, strict=True):
            assert one.norm().item() == pytest.approx(its.norm().item() if p.dim() > 1 else 0, rel=1e-12)


@pytest.mark.parametrize("norm", ["layer", "none"])
def test_directions_can_have_lengths_of_layers_or_their_own(model, norm):
    random, direction = stream(3, "direction", 0), filter_normalized(model, 3, norm=norm)
    for name, p in model.named_parameters():
        if p.dim() > 1:
            drawn = torch.from_numpy(random.standard_normal(p.shape))
            expected = drawn * (p.norm() / drawn.norm()) if norm == "layer" else drawn
            torch.testing.assert_close(direction[name], expected.detach(), rtol=1e-12, atol=0)
        else:
            assert not direction[name].any()


def test_biases_and_norm_layers_can_move_along_themselves(model):
    still, moved = filter_normalized(model, 3), filter_normalized(model, 3, biases=True)
    for name, p in model.named_parameters():
        assert torch.equal(moved[name], still[name] if p.dim() > 1 else p)


def test_filters_point_where_the_gaussian_numbers_say(model):
    random = stream(3, "direction", 1)
    direction = filter_normalized(model, 3, 1)
    for name, p in model.named_parameters():
        if p.dim() > 1:
            drawn = torch.from_numpy(random.standard_normal(p.shape)).flatten(1)
            cosines = torch.cosine_similarity(drawn, direction[name].flatten(1))
            assert torch.allclose(cosines, torch.ones_like(cosines))


def test_directions_differ_with_seed_and_index_only(model):
    weight = "stem.0.weight"
    one = filter_normalized(model, 3, 1)[weight]
    assert torch.equal(one, filter_normalized(model, 3, 1)[weight])
    assert torch.allclose(one.float(), filter_normalized(model.float(), 3, 1)[weight])
    assert not torch.allclose(one.float(), filter_normalized(model, 3, 2)[weight])
    assert not torch.allclose(one.float(), filter_normalized(model, 4, 1)[weight])


def test_filters_of_zeros_stay_zero(model):
    with torch.no_grad():
        model.stem[0].weight[0] = 0
    assert not filter_normalized(model, 0)["stem.0.weight"][0].any()
