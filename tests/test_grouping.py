import pytest
import torch
from conftest import make_spec

from whysgd.models.build import build_model
from whysgd.study.registry import make
from whysgd.training.grouping import choose_grouping, even, saved_bytes
from whysgd.training.objective import Objective

GIB = 1 << 30
EXACT = make("penalty", "gradient_norm", variant="exact")


def chosen(name, memory, block=128, blocks=390, penalty=None, size=32):
    objective = Objective(build_model(name, 3, 10, 0))
    return choose_grouping(make_spec(block=block, penalty=penalty), objective, (3, size, size), blocks, memory)


def test_small_networks_take_copies_and_large_ones_on_a_cpu_the_loop():
    small = chosen("resnet_mini", 0, block=16, size=8)
    assert (small.way, small.most > 8) == ("copies", True)
    assert (chosen("resnet18", 0).way, chosen("resnet18", 0).most) == ("copies", 1)
    assert chosen("resnet_mini", 80 * GIB, block=16, size=8) == small


def test_on_a_gpu_large_networks_share_their_weights_or_take_streams_as_memory_allows():
    shared = chosen("resnet18", 140 * GIB)
    assert (shared.way, shared.most) == ("shared", 6)
    assert 390 % shared.most == 0
    assert chosen("resnet18", 4 * GIB).most < shared.most
    assert (chosen("resnet18", 140 * GIB, penalty=make("penalty", "gradient_norm"))).way == "streams"
    large, small = (chosen("resnet18", 140 * GIB, block=b, penalty=EXACT).most for b in (128, 32))
    assert (large, small) == (2, 4)
    # One block of 128 at a time, where memory is short.
    assert chosen("resnet152", 24 * GIB, penalty=make("penalty", "gradient_norm")).most == 1
    assert chosen("resnet18", 140 * GIB, blocks=1).most == 1


def test_what_a_pass_keeps_is_counted_without_computing():
    # Images, hidden layer before and after its ReLU (one storage for what backward needs), logits' part, weights.
    objective = Objective(build_model("fc_d2_w64", 1, 10, 0, 28))
    counted = saved_bytes(objective, 100, (1, 28, 28))
    least = 4 * (100 * 784 + 100 * 64 + 784 * 64 + 64 * 10)
    assert least <= counted <= 1.5 * least


def test_saved_bytes_bound_what_a_cpu_really_keeps():
    objective = Objective(build_model("vgg11", 3, 10, 0))
    theta = objective.parameters.vector(dict(objective.model.named_parameters())).detach()
    sizes = {}

    def keep(tensor):
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        objective.losses(theta.requires_grad_(), torch.randn(1, 4, 3, 32, 32), torch.zeros(1, 4, dtype=torch.int64))
    assert saved_bytes(objective, 4, (3, 32, 32)) == pytest.approx(sum(sizes.values()), rel=0.05)


def test_precision_halves_it():
    model = build_model("resnet18_half", 3, 10, 0)
    full, half = (saved_bytes(Objective(model, dtype), 128, (3, 32, 32)) for dtype in (None, torch.bfloat16))
    assert 0.4 < half / full < 0.6


@pytest.mark.parametrize(("most", "blocks", "expected"), [(8, 390, 6), (8, 1562, 8), (4, 390, 3), (8, 5, 5), (0, 9, 1)])
def test_stacks_are_even_where_a_divisor_is_near(most, blocks, expected):
    assert even(most, blocks) == expected
