import pytest
import torch

from whysgd.measures.directions import filter_normalized
from whysgd.models.build import build_model
from whysgd.streams import stream


@pytest.fixture
def model():
    return build_model("resnet_mini", 1, 10, 0, 8).double()


@pytest.mark.parametrize("norm", ["filter", "layer", "none"])
def test_gaussian_directions_have_lengths_of_filters_of_layers_or_their_own(model, norm):
    random, direction = stream(3, "direction", 1), filter_normalized(model, 3, 1, norm)
    assert list(direction) == [name for name, _ in model.named_parameters()]
    for name, p in model.named_parameters():
        assert (direction[name].dtype, direction[name].requires_grad) == (p.dtype, False)
        expected = torch.zeros_like(p)
        if p.dim() > 1:
            expected = torch.from_numpy(random.standard_normal(p.shape))
            pairs = {"filter": zip(expected, p, strict=True), "layer": [(expected, p)], "none": []}
            for drawn, own in pairs[norm]:
                drawn.mul_(own.detach().norm() / drawn.norm())
        torch.testing.assert_close(direction[name], expected, rtol=1e-12, atol=0)


def test_biases_and_norm_layers_can_move_along_themselves(model):
    still, moved = filter_normalized(model, 3), filter_normalized(model, 3, biases=True)
    for name, p in model.named_parameters():
        assert torch.equal(moved[name], still[name] if p.dim() > 1 else p)


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
