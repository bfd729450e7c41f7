"""The noise of mini-batch gradients in two passes, against stored ones."""

import math
import weakref

import pytest
import torch
from measured import stored_alpha

from whysgd.measures import alpha, noise
from whysgd.measures.alpha import largest_divisor
from whysgd.measures.noise import noise_of


def gradients(p, m, seed=0, dead=(), sparse=()) -> torch.Tensor:
    """(P, M) in float64, of parameters of different size; zero on every mini-batch, or on all but one."""
    generator = torch.Generator().manual_seed(seed)
    found = torch.randn(p, m, generator=generator, dtype=torch.float64) + 0.5
    found *= torch.rand(m, generator=generator, dtype=torch.float64) + 0.1
    found[:, list(dead)] = 0
    found[1:, list(sparse)] = 0
    return found


def as_stacks(g, k):
    """A function that gives the gradients k at a time, in a buffer that the next stack overwrites."""
    buffer = torch.empty(k, g.shape[1], dtype=g.dtype)

    def passes():
        for stack in g.split(k):
            buffer.fill_(math.nan)
            yield buffer[: len(stack)].copy_(stack)

    return passes


CASES = [
    # P, M, stack, dead, on one mini-batch only
    (2, 1, 1, [], []), (2, 2, 2, [], []), (5, 7, 2, [], []), (3, 101, 1, [0], []), (7, 13, 7, [0, 12], [3]),
    (12, 50, 5, [*range(20)], [30]), (23, 8, 4, [7], [0]), (130, 6, 30, [1], []), (4, 300, 3, [*range(100, 290)], [5]),
    (3, 5, 1, [0, 1, 2, 3], []),
]  # fmt: skip


@pytest.mark.parametrize("chunk", [3, 20, 2**17])
@pytest.mark.parametrize(("p", "m", "k", "dead", "sparse"), CASES)
def test_the_noise_is_that_of_stored_gradients(p, m, k, dead, sparse, chunk, monkeypatch):
    for part in (alpha, noise):
        monkeypatch.setattr(part, "chunk_entries", lambda _: chunk)
    g = gradients(p, m, dead=dead, sparse=sparse)
    found = noise_of(as_stacks(g, k), p, m)
    U = g - g.mean(0)
    assert torch.allclose(found.gradient, g.mean(0), rtol=1e-12, atol=0)
    assert torch.allclose(found.noise_norms, U.norm(dim=1), rtol=1e-12, atol=0)
    assert found.noise_norms.dtype == torch.float64
    assert found.inactive == pytest.approx(len(dead) / m, abs=1e-15)
    assert found.alpha.value == pytest.approx(stored_alpha(U), rel=1e-10, nan_ok=True)
    kept = [column for column in range(m) if column not in dead]
    # With the m of all parameters, though its own number of entries has other divisors.
    length = min(largest_divisor(p * m), p * len(kept))
    assert found.active.value == pytest.approx(stored_alpha(U[:, kept], length), rel=1e-10, nan_ok=True)
    assert (found.alpha.entries, found.active.entries) == (p * m, p * len(kept) // length * length)
    if not dead:
        assert found.active is found.alpha


@pytest.mark.parametrize(("p", "blocks"), [(2, 2), (5, 5), (100, 100), (101, 51), (128, 64), (600, 100), (1000, 100)])
def test_a_block_of_the_bootstrap_is_of_whole_mini_batches(p, blocks, monkeypatch):
    made, streamed = [], alpha.StreamedAlpha
    monkeypatch.setattr(noise, "StreamedAlpha", lambda *a, **k: made.append(k["blocks"]) or streamed(*a, **k))
    noise_of(as_stacks(gradients(p, 30), 50), p, 30)
    assert made == [blocks]


def test_the_interval_of_noise_that_only_differs_between_mini_batches_is_wider():
    """Mini-batches that share a scale each have fewer independent entries than their number."""
    generator = torch.Generator().manual_seed(0)
    g = torch.randn(60, 400, generator=generator, dtype=torch.float64)
    scaled = g * torch.randn(60, 1, generator=generator, dtype=torch.float64).exp()
    plain, common = (noise_of(as_stacks(one, 7), 60, 400).alpha for one in (g, scaled))
    assert common.high - common.low > plain.high - plain.low


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_gradients_that_are_not_finite_have_no_noise(bad):
    g = gradients(6, 10)
    g[2, 3] = bad
    found = noise_of(as_stacks(g, 2), 6, 10)
    assert all(map(math.isnan, (found.alpha.value, found.alpha.low, found.active.value, found.inactive)))
    assert found.noise_norms.isnan().tolist() == [True] * 6


def test_gradients_that_are_all_zero_have_noise_of_norm_zero():
    assert noise_of(as_stacks(torch.zeros(6, 10), 2), 6, 10).noise_norms.tolist() == [0] * 6


def test_no_gradient_is_kept_while_the_next_is_made():
    def passes():
        for row in gradients(5, 10):
            held = [row[None].clone()]
            seen = weakref.ref(held[0])
            yield held.pop()
            assert seen() is None

    noise_of(passes, 5, 10)


def test_autograd_is_left_as_it_is():
    """Gradients are computed while the passes run, and may have a history."""
    weight = torch.randn(4, requires_grad=True)
    modes = []

    def passes():
        for place in range(3):
            modes.append(torch.is_grad_enabled())
            yield (weight * (place + 1))[None]

    with torch.enable_grad():
        found = noise_of(passes, 3, 4)
    assert modes == [True] * 6
    assert not found.gradient.requires_grad
    assert torch.allclose(found.gradient, 2 * weight.detach())


def test_one_gradient_has_no_noise():
    with pytest.raises(ValueError, match="mini_batches = 1: noise needs at least 2"):
        noise_of(as_stacks(gradients(1, 10), 1), 1, 10)
