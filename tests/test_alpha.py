"""The tail index of samples: by the formula, streamed, with its interval."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import levy_stable

import whysgd
from whysgd.measures import alpha as module
from whysgd.measures.alpha import StreamedAlpha, alpha_estimator, alpha_estimator2, block_bootstrap, largest_divisor


def normal(n, d=None, seed=0) -> torch.Tensor:
    shape = (n,) if d is None else (n, d)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def stable(alpha: float, size: int, random: np.random.Generator) -> np.ndarray:
    """Standard symmetric α-stable numbers."""
    return levy_stable.rvs(alpha, 0, size=size, random_state=random)


def logarithms(m, rows) -> tuple[list[float], list[float]]:
    """log(‖X‖ + 2⁻⁵²) and log(‖Y‖ + 2⁻⁵²) of rows of numbers, one after another."""
    sums = [[sum(row[c] for row in rows[i : i + m]) for c in range(len(rows[0]))] for i in range(0, len(rows), m)]
    return tuple([math.log(math.hypot(*row) + 2**-52) for row in some] for some in (rows, sums))


@pytest.mark.parametrize(("n", "d", "m"), [(12, None, 3), (35, 1, 5), (35, 3, 7), (24, 2, 24), (6, None, 2)])
def test_the_first_estimator_is_the_formula(n, d, m):
    X = normal(n, d)
    single, sums = logarithms(m, X.reshape(n, -1).tolist())
    expected = math.log(m) / (sum(sums) / len(sums) - sum(single) / n)
    assert alpha_estimator(m, X) == pytest.approx(expected, rel=1e-12)
    assert alpha_estimator(m, X.numpy()) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_the_second_estimator_is_the_formula(k):
    X = normal(35, 3)
    single, sums = (sorted(logs) for logs in logarithms(7, X.tolist()))
    expected = math.log(7) / (sums[k - 1] - single[7 * k - 1])
    assert alpha_estimator2(7, k, X) == pytest.approx(expected, rel=1e-12)


def test_both_are_public():
    assert whysgd.alpha_estimator is alpha_estimator
    assert whysgd.alpha_estimator2 is alpha_estimator2
    assert {"alpha_estimator", "alpha_estimator2"} <= set(whysgd.__all__)


def test_what_cannot_be_estimated_is_refused_or_nan():
    for m in (0, 5, 13):
        with pytest.raises(ValueError, match=f"m = {m}: the 12 samples must be a multiple"):
            alpha_estimator(m, normal(12))
    with pytest.raises(ValueError, match="the 0 samples"):
        alpha_estimator(1, normal(0))
    for k in (0, 5):
        with pytest.raises(ValueError, match=f"k = {k}: must be at least 1 and at most 4"):
            alpha_estimator2(3, k, normal(12))
    assert math.isnan(alpha_estimator(1, normal(12)))
    assert math.isnan(alpha_estimator(3, torch.zeros(12)))
    assert math.isnan(alpha_estimator(3, torch.full((12,), math.nan)))
    # Alternating signs: |X| and |Y| are the same.
    assert math.isnan(alpha_estimator(3, [1.0, -1.0] * 6))


def test_a_zero_enters_as_the_logarithm_of_eps_and_pulls_alpha_down():
    X = normal(10_000)
    zeros = X.clone()
    zeros[::10] = 0
    m = 100
    sums = zeros.view(-1, m).sum(1).abs().log().mean().item()
    kept = zeros[zeros != 0].abs().log()
    expected = math.log(m) / (sums - (kept.sum().item() + 1000 * math.log(module.EPS)) / 10_000)
    assert alpha_estimator(m, zeros) == pytest.approx(expected, rel=1e-9)
    assert alpha_estimator(m, zeros) < 0.6 * alpha_estimator(m, X)
    assert alpha_estimator(m, X, eps=0) == pytest.approx(alpha_estimator(m, X), rel=1e-9)
    assert math.isnan(alpha_estimator(m, zeros, eps=0))


def test_tiny_numbers_are_not_squared_away():
    X = torch.tensor([3e-30, -1e-30, 2e-30, 5e-30])
    assert alpha_estimator(2, X, eps=0) == pytest.approx(alpha_estimator(2, X * 1e30, eps=0), rel=1e-4)


def test_the_divisor_is_the_largest_up_to_the_root():
    for N in range(1, 400):
        assert largest_divisor(N) == max(m for m in range(1, N + 1) if N % m == 0 and m * m <= N)
    assert largest_divisor(9_999_999_967) == 1
    assert largest_divisor(99_991 * 99_989) == 99_989
    assert largest_divisor(99_991**2) == 99_991
    N = 600 * 9_240_576
    m = largest_divisor(N)
    assert N % m == 0
    assert all(N % larger for larger in range(m + 1, math.isqrt(N) + 1))
    with pytest.raises(ValueError, match="0 has no"):
        largest_divisor(0)


TRUTHS = {0.5: 0.02, 0.8: 0.02, 1.0: 0.03, 1.2: 0.03, 1.5: 0.05, 1.8: 0.06, 2.0: 0.06}


@pytest.mark.parametrize(("truth", "tolerance"), TRUTHS.items())
def test_stable_numbers_have_the_tail_index_they_were_drawn_with(truth, tolerance):
    """The tolerance is that of the mean of 20 samples of 40,000: the spread of one is about three times as large."""
    random = np.random.default_rng(0)
    samples = [stable(truth, 40_000, random) for _ in range(20)]
    assert np.mean([alpha_estimator(200, X) for X in samples]) == pytest.approx(truth, abs=tolerance)
    # The second is as good at the median.
    assert np.mean([alpha_estimator2(200, 100, X) for X in samples]) == pytest.approx(truth, abs=tolerance)
    # Sums of m are m^(1/α) times as large.
    X = np.concatenate(samples)
    ratio = np.median(abs(X.reshape(-1, 50).sum(1))) / np.median(abs(X))
    assert ratio == pytest.approx(50 ** (1 / truth), rel=0.06)


def streamed(samples, cuts, **options):
    found = StreamedAlpha(len(samples), **options)
    for part in samples.tensor_split(cuts):
        found.add(part)
    return found


# P mini-batches of M entries: m is 1 … 2, prime, below M, above M, and M is prime.
SHAPES = [(1, 1), (1, 2), (2, 1), (2, 2), (1, 24), (2, 13), (5, 7), (7, 5), (23, 3), (3, 101), (49, 2), (16, 25), (11, 97)]  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("p", "size"), SHAPES)
def test_streamed_is_stored(p, size, dtype, monkeypatch):
    X = normal(p * size, seed=p).to(dtype)
    before = X.clone()
    tolerance = 1e-10 if dtype == torch.float64 else 1e-4
    random = np.random.default_rng(p)
    divisors = [m for m in range(1, p * size + 1) if p * size % m == 0]
    for chunk in (5, 2**17):
        monkeypatch.setattr(module, "chunk_entries", lambda _, chunk=chunk: chunk)
        for m in (None, *divisors):
            cuts = sorted(random.integers(0, p * size + 1, random.integers(0, 9)).tolist())
            found = streamed(X, cuts, m=m).estimate()
            assert found.m == (m or largest_divisor(p * size))
            assert found.entries == p * size
            assert found.value == pytest.approx(alpha_estimator(found.m, X), rel=tolerance, nan_ok=True)
    assert torch.equal(X, before)


@pytest.mark.parametrize("cuts", [[], [1], [7, 8, 8, 50], range(1, 120)])
@pytest.mark.parametrize(("m", "blocks"), [(4, 7), (1, 5), (10, 100), (5, 24), (60, 1)])
def test_blocks_are_runs_of_neighbouring_sums(cuts, m, blocks):
    X = normal(120)
    found = streamed(X, list(cuts), m=m, blocks=blocks)
    n = 120 // m
    count = min(n, blocks)
    block = np.arange(n) * count // n
    assert found.sums.shape == (2, count)
    logs = X.abs().log().view(n, m).sum(1), X.view(n, m).sum(1).abs().log()
    for mine, theirs in zip(found.sums, logs, strict=True):
        assert mine.tolist() == pytest.approx(np.bincount(block, theirs.numpy()).tolist(), rel=1e-9)
    whole = block_bootstrap(*(np.bincount(block, one.numpy()) for one in logs), np.bincount(block), m)
    estimate = found.estimate()
    for name in ("value", "low", "high", "std_error"):
        assert getattr(estimate, name) == pytest.approx(getattr(whole, name), rel=1e-9, nan_ok=True)


def test_as_many_entries_as_were_announced():
    with pytest.raises(ValueError, match="13 entries were added, not 12"):
        streamed(normal(12), [5]).add(normal(1))
    found = StreamedAlpha(12)
    found.add(normal(11))
    with pytest.raises(ValueError, match="11 entries were added, not 12"):
        found.estimate()
    with pytest.raises(ValueError, match="0 entries were added"):
        StreamedAlpha(12).estimate()
    for wrong in ({"entries": 12, "m": 13}, {"entries": 12, "m": 0}, {"entries": 12, "blocks": 0}):
        with pytest.raises(ValueError, match="m must be at least 1 and at most"):
            StreamedAlpha(**wrong)


@pytest.mark.parametrize("cuts", [[], [*range(1, 23)], [19, 21], [22]])
def test_what_does_not_fill_a_last_sum_is_left_out(cuts):
    samples = normal(23)
    found = streamed(samples, cuts, m=4)
    assert found.estimate().value == pytest.approx(alpha_estimator(4, samples[:20]), rel=1e-10)
    assert found.estimate().entries == 20


def test_the_interval_is_a_bootstrap_of_blocks():
    """By drawing blocks of stored samples, one resample after another; other draws, so only nearly the same."""
    X, m, blocks = stable(1.5, 90 * 70, np.random.default_rng(3)), 30, 70
    found = module.alpha_interval(X, m, blocks)
    parts, random = X.reshape(blocks, -1), np.random.default_rng(0)
    draws = random.integers(0, blocks, (1000, blocks))
    values = [alpha_estimator(m, parts[drawn].ravel()) for drawn in draws]
    assert [found.low, found.high] == pytest.approx(np.quantile(values, [0.025, 0.975]).tolist(), rel=0.03)
    assert found.std_error == pytest.approx(np.std(values, ddof=1), rel=0.1)
    assert found == module.alpha_interval(torch.from_numpy(X), m, blocks)


def test_an_interval_that_the_resamples_do_not_bound_is_open():
    found = block_bootstrap(np.zeros(4), np.array([1.0, -1.0, 2.0, -1.0]), np.ones(4, int), 2)
    assert found.value == pytest.approx(math.log(2) / 0.25)
    assert found.high == math.inf
    assert 0 < found.low < found.value
    assert math.isfinite(found.std_error)
    below = block_bootstrap(np.zeros(2), -np.ones(2), np.ones(2, int), 2)
    assert (below.value, math.isnan(below.low), math.isnan(below.std_error)) == (-math.log(2), True, True)
    alone = block_bootstrap(np.zeros(1), np.ones(1), np.ones(1, int), 2)
    assert (alone.value, math.isnan(alone.low), math.isnan(alone.std_error)) == (math.log(2), True, True)


@pytest.mark.parametrize("truth", [0.8, 1.2, 1.8])
def test_most_intervals_contain_the_truth(truth):
    """95 of 100 should; fewer than 88 of 100 would have a chance of 1 in 200."""
    random, hits, shorter = np.random.default_rng(1), 0, 0
    for _ in range(100):
        found = module.alpha_interval(stable(truth, 10_000, random))
        hits += found.low <= truth <= found.high
        # An interval of half the length must fail.
        shorter += abs(found.value - truth) <= (found.high - found.low) / 16
    assert hits >= 88
    assert shorter < 60
