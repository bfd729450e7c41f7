"""The statistics of the reports, against scipy where it has them and against slow, obvious truths elsewhere."""

from itertools import combinations, permutations

import numpy as np
import pytest
from frames import seeded
from scipy import stats

from whysgd.report import statistics
from whysgd.report.statistics import difference, pair_sums, percentile_interval, rank_correlation, resamples

MINUS = {"a": 1.0, "b": -1.0}


@pytest.mark.parametrize(
    ("a", "b", "start"),
    [([95.0, 96.0, 97.5], [90.0, 94.0, 91.0, 92.5], 1), ([1.0, 2.0], [1.5, 1.6], 0), ([1.0, 2.0], [1.5, 1.6], 5)],
)
def test_the_interval_of_runs_that_share_at_most_two_seeds_is_welchs(a, b, start):
    found, half = difference(MINUS, {"a": dict(enumerate(a)), "b": dict(enumerate(b, start=start))})
    interval = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    assert (found - half, found + half) == pytest.approx((interval.low, interval.high))


@pytest.mark.parametrize("more", [{}, {3: 80.0, 4: 99.0}], ids=["the same seeds", "more seeds"])
def test_the_interval_of_runs_that_share_three_seeds_is_that_of_pairs_in_whatever_order(more):
    a, b = [95.0, 96.0, 97.5], [90.0, 94.0, 91.0]
    values = {"a": dict(enumerate(a)) | more, "b": dict(reversed(list(enumerate(b))))}
    found, half = difference(MINUS, values)
    interval = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert (found - half, found + half) == pytest.approx((interval.low, interval.high))
    margin = 0.5
    assert statistics.seeds_needed(MINUS, values, margin) == statistics.seeds_needed(
        MINUS, seeded({"a": a, "b": b}), margin
    )
    mean, half = difference({"a": 1.0}, seeded({"a": a}))
    interval = stats.ttest_1samp(a, 0).confidence_interval(0.95)
    assert (mean - half, mean + half) == pytest.approx((interval.low, interval.high))


DRAWS = {
    "normal": lambda generator, shape: generator.normal(size=shape),
    "t3": lambda generator, shape: generator.standard_t(3, shape),
}


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("shared", [0.0, 0.7], ids=["independent", "correlated"])
@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_the_interval_of_a_difference_covers_it_as_often_as_it_says(seeds, shared, draw):
    """Two runs of which one varies three times as much, with a common part of each seed; also with heavy tails."""
    generator, studies = np.random.default_rng(seeds), 1500
    common, a, b = DRAWS[draw](generator, (3, studies, seeds))
    a, b = 1.0 + 3 * (shared * common + a), shared * common + b
    numbers = zip(a.tolist(), b.tolist(), strict=True)
    pairs = (difference(MINUS, seeded({"a": own, "b": other})) for own, other in numbers)
    inside = np.mean([abs(found - 1.0) <= half for found, half in pairs])
    assert 0.93 < inside < (0.97 if draw == "normal" else 0.99)


def test_one_seed_has_no_interval_and_what_does_not_vary_none_to_speak_of():
    assert difference({"a": 1.0, "b": -2.0}, seeded({"a": [3.0], "b": [1.0, 2.0]})) == (0.0, None)
    assert difference(MINUS, seeded({"a": [3.0, 3.0], "b": [1.0, 1.0]})) == (2.0, 0.0)


@pytest.mark.parametrize("margin", [0.2, -0.5, 1.0])
def test_as_many_seeds_as_are_said_to_be_needed_just_suffice(margin):
    """Their differences vary as much as those measured: by turns ±s, scaled to the same variance."""
    values = seeded({"a": [1.0, 3.0, 2.0], "b": [1.5, 2.0, 2.5]})
    needed = statistics.seeds_needed(MINUS, values, margin)
    halves = []
    for count in (needed - 1, needed):
        turns = np.array([(-1.0) ** index for index in range(count)])
        turns *= np.std([-0.5, 1.0, -0.5], ddof=1) / np.std(turns, ddof=1)
        halves.append(difference(MINUS, seeded({"a": turns, "b": np.zeros(count)}))[1])
    assert halves[1] < abs(margin) <= halves[0]
    assert statistics.seeds_needed(MINUS, values, 0.0) is None


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (([88.0], [86.0], [90.0]), (0.5, False)),  # one seed has no interval
        (([88.0], [86.0, 86.0], [90.0, 90.0]), (0.5, True)),
        (([88.0, 88.0], [86.0, 86.0], [90.0, 90.0]), (0.5, True)),  # nothing varies
        (([88.0, 88.0], [86.0, 86.0], [86.0, 86.0]), (None, False)),  # no denominator
        (([88.0, 88.0], [90.0, 90.0], [86.0, 86.0]), (0.5, False)),  # a negative one
        (([88.0, 89.0], [80.0, 90.0], [82.0, 92.0]), (1.75, False)),  # an uncertain one
    ],
)
def test_a_gap_that_says_nothing_is_not_resolved(values, expected):
    runs = seeded(dict(zip(("gn", "lb", "sb"), values, strict=True)))
    assert statistics.recovered("gn", "lb", "sb", runs) == expected
    assert statistics.recovered("gn", "lb", "none", {name: runs[name] for name in ("gn", "lb")}) is None


def test_a_gap_and_what_is_recovered_of_it_are_over_the_seeds_that_all_three_have():
    values = seeded({"gn": [85.0, 86.0, 87.0], "lb": [80.0, 81.0, 82.0, 70.0], "sb": [90.0, 91.5, 91.5, 60.0, 99.0]})
    assert statistics.recovered("gn", "lb", "sb", values) == (pytest.approx(0.5), True)


@pytest.mark.parametrize(
    ("places", "numbers"),
    [([0, 1, 2], [1, 2, 3]), ([0, 0, 0, 1, 1, 1], [1, 2, 3, 4, 5, 6]), ([0, 1, 1, 2, 3], [1, 2, 2, 3, 4]),
     ([0, 1, 2], [2, 1, 3]), ([0, 0, 1, 1, 2, 2], [5, 3, 4, 4, 1, 2])],
)  # fmt: skip
def test_the_p_of_a_few_values_is_exact(places, numbers):
    """All orders of the values are counted that correlate at least as strongly in the same sense, twice."""
    found, p = rank_correlation(places, numbers)
    assert found == pytest.approx(stats.spearmanr(places, numbers).statistic)
    rho = np.array([stats.spearmanr(places, order).statistic for order in permutations(numbers)])
    assert p == pytest.approx(min(1.0, 2 * np.mean(rho >= found - 1e-9), 2 * np.mean(rho <= found + 1e-9)))
    if len(set(numbers)) == len(numbers):
        assert statistics.smallest_p(places) == pytest.approx(2 * np.mean(rho >= rho.max() - 1e-9))


def test_the_p_of_many_values_is_near_the_usual_one_and_reproducible():
    generator = np.random.default_rng(0)
    x = np.repeat(np.arange(4), 5)
    y = 0.3 * x + generator.normal(size=20)
    assert rank_correlation(x, y)[1] == pytest.approx(stats.spearmanr(x, y).pvalue, abs=0.02)
    assert rank_correlation(x, y) == rank_correlation(x, y)


@pytest.mark.parametrize("p", [[0.04, 0.01, 0.01, 0.06], [0.5, 0.9], [0.001, 0.02, 0.03, 0.02, 0.9], []])
def test_holm_is_the_closed_test_of_bonferronis(p):
    """A hypothesis is rejected if Bonferroni's test rejects every set of hypotheses that it is in."""
    sets = [chosen for size in range(1, len(p) + 1) for chosen in combinations(range(len(p)), size)]
    bounds = {chosen: min(1.0, len(chosen) * min(p[other] for other in chosen)) for chosen in sets}
    truth = [max(bound for chosen, bound in bounds.items() if index in chosen) for index in range(len(p))]
    assert statistics.holm(p) == pytest.approx(truth)


@pytest.mark.parametrize(("rows", "clear"), [(2, True), (4, False)])
def test_trends_of_rows_are_judged_together(rows, clear):
    """Five values in order have p = 2/5!, which is significant twice but not four times."""
    places = [1.0, 2.0, 3.0, 4.0, 5.0]
    assert statistics.trends([(places, places)] * rows) == [(pytest.approx(1.0), clear, clear)] * rows
    flat, short = statistics.trends([(places, [1.0] * 5), (places[:2], places[:2])])
    assert (flat, short) == ((0.0, False, True), (0.0, False, False))


def kendall(x, y, counts):
    """Kendall's τ_a of pairs of different runs, each as often as both of its runs are drawn, by the definition."""
    signed = total = 0.0
    for i, j in combinations(range(len(x)), 2):
        weight = counts[i] * counts[j]
        total += weight
        if x[i] != x[j] and y[i] != y[j]:
            signed += weight if (x[i] < x[j]) == (y[i] < y[j]) else -weight
    return signed, total


@pytest.mark.parametrize("seed", range(4))
def test_sums_over_pairs_are_those_of_the_double_loop_and_of_scipy(seed):
    generator = np.random.default_rng(seed)
    x, y = generator.normal(size=(2, 12))
    counts, mask = resamples(12, generator)[:6], np.triu(np.ones((12, 12)), 1)
    assert (counts[0] == 1).all()
    assert (counts.sum(1) == 12).all()
    signed, total = pair_sums(x, y, np.array([mask, mask.T]), counts)
    assert signed[0].tolist() == signed[1].tolist()
    assert list(zip(signed[0], total[0], strict=True)) == [kendall(x, y, own) for own in counts]
    # Without ties but those of a run with itself.
    whole = counts.astype(int)
    expected = [stats.kendalltau(np.repeat(x, own), np.repeat(y, own)).statistic for own in whole]
    assert signed[0] / total[0] == pytest.approx(expected)
    tied = generator.integers(0, 4, 12).astype(float)
    signed, total = pair_sums(x, tied, mask[None], counts)
    assert list(zip(signed[0], total[0], strict=True)) == [kendall(x, tied, own) for own in counts]


def interval(x, y, seed):
    mask = np.triu(np.ones((1, len(x), len(x))), 1)
    signed, total = pair_sums(x, y, mask, resamples(len(x), np.random.default_rng(seed)))
    return percentile_interval((signed / total)[0, 1:])


def test_the_bootstrap_is_scipys():
    generator = np.random.default_rng(0)
    x = generator.normal(size=20)
    y = x + generator.normal(size=20)
    scipys = stats.bootstrap((x, y), lambda a, b: stats.kendalltau(a, b).statistic, paired=True, vectorized=False,
                             method="percentile", n_resamples=2000, rng=np.random.default_rng(2))  # fmt: skip
    assert interval(x, y, 1) == pytest.approx(tuple(scipys.confidence_interval), abs=0.03)
    assert np.isnan(percentile_interval(np.array([np.nan, np.nan]))).all()


def test_intervals_cover_as_often_as_they_say():
    """Of normal numbers with correlation r, τ = 2/π arcsin r."""
    generator, inside = np.random.default_rng(1), {0.0: 0, 0.5: 0}
    for r in inside:
        for trial in range(300):
            x, z = generator.normal(size=(2, 12))
            low, high = interval(x, r * x + (1 - r**2) ** 0.5 * z, trial)
            inside[r] += low <= 2 / np.pi * np.arcsin(r) <= high
    assert all(0.9 < count / 300 < 0.99 for count in inside.values())


def test_a_difference_of_means_is_rounded_off_where_floats_end():
    """3.885 from ten accuracies; the plain sum says 3.8850000000000051."""
    values = {"a": dict(enumerate([63.53, 63.531])), "b": dict(enumerate([59.646, 59.645]))}
    found, _ = difference({"a": 1.0, "b": -1.0}, values)
    assert found == 3.885
    plain = sum(values["a"].values()) / 2 - sum(values["b"].values()) / 2
    assert plain != found
    assert plain == pytest.approx(found, rel=1e-12)
