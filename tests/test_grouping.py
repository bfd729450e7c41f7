import pytest
import torch

from whysgd.models.build import build_model
from whysgd.training.grouping import choose_grouping, saved_bytes
from whysgd.training.objective import Objective


def chosen(name, micro_batch, size):
    return choose_grouping(Objective(build_model(name, 3, 10, 0, size)), micro_batch, size * size)


def test_small_networks_share_a_pass_and_large_ones_take_one_pair_at_a_time():
    assert chosen("resnet_mini", 16, 8) == 32
    assert chosen("resnet_mini", 4, 8) == 128
    assert chosen("fc_d2_w4", 100, 28) == 13
    for name in ("resnet18_half", "vgg11_half", "fc_d4_w1024"):
        assert chosen(name, 128, 32) == 1


def test_what_a_pass_keeps_is_counted_without_computing():
    # Images, hidden layer before and after its ReLU (one storage for what backward needs), logits' part, weights.
    objective = Objective(build_model("fc_d2_w64", 1, 10, 0, 28))
    counted = saved_bytes(objective, 100, (1, 28, 28))
    least = 4 * (100 * 784 + 100 * 64 + 784 * 64 + 64 * 10)
    assert least <= counted <= 1.5 * least


def test_saved_bytes_are_what_a_cpu_really_keeps():
    arguments = Objective(build_model("vgg11", 3, 10, 0)), 4, (3, 32, 32)
    assert saved_bytes(*arguments) == pytest.approx(saved_bytes(*arguments, "cpu"), rel=0.05)


def test_precision_halves_it():
    model = build_model("resnet18_half", 3, 10, 0)
    full, half = (saved_bytes(Objective(model, dtype), 128, (3, 32, 32)) for dtype in (None, torch.bfloat16))
    assert 0.4 < half / full < 0.6
