"""Whether a measure orders runs as test accuracy and the generalization gaps do, among runs that can be compared."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
import pandas as pd

from whysgd.measures.catalog import QUANTITIES
from whysgd.report.measures import NETWORK, over_seeds
from whysgd.report.statistics import pair_sums, percentile_interval, resamples
from whysgd.streams import stream

COLUMNS = ["scope", "quantity", "target", "coefficient", "value", "low", "high", "runs", "pairs", "parts"]
TARGETS = ("test_accuracy", "accuracy_gap", "loss_gap")
# What is compared with them: quantities that say something about the minimum rather than how good the network is.
COMPARED = [name for name, known in QUANTITIES.items() if known.flatter or name == "gradient_signal_to_noise"]
AT_LOSS, RAW, GRANULATED, SIGN_ERROR = "tau_at_loss", "tau", "psi", "sign_error"
COEFFICIENTS = {
    AT_LOSS: "τ at the same loss", RAW: "τ of all pairs", GRANULATED: "granulated Ψ", SIGN_ERROR: "worst sign error",
}  # fmt: skip
OVERALL = "overall"
FEWEST = 5  # runs of a group, pairs of an environment
# An order without exception keeps it in every resample. From so many pairs on, those of five runs, its interval has no
# width: chance orders five runs so once in 60. Fewer pairs have no interval.
ORDERED = 10
# Training losses are the same if they differ by at most this factor: those of the seeds of a run do by 1.1 (median of
# the runs recorded at small; 1.6 at most), methods by thousands. Where Jiang et al. stop training all is fitted, so a
# loss below counts as this one, in nats.
BAND, FLOOR = 2.0, 0.01


@dataclass(frozen=True)
class Group:
    """Runs of one paper, data set, network and loss function.

    Attributes:
        paper: its name.
        runs: their lines of `over_seeds`.
        masks: (K, n, n), which pairs count, each once: all, those at the same training loss, and for each setting
            those that differ in it alone.
        counts: (B, n), how often each run is in each sample of `resamples`.
    """

    paper: str
    runs: pd.DataFrame
    masks: np.ndarray
    counts: np.ndarray


def correlate(lines: pd.DataFrame) -> pd.DataFrame:
    """Return how alike each of `COMPARED` and each of `TARGETS` order runs, within each paper and over all of them.

    A run counts once, with its means over seeds: seeds of a run are not independent of one another. Sharpness of one
    network on one data set says nothing about another's, and losses of two functions have no common unit. So each
    coefficient is an average over pairs (i, j) of runs of one `Group` of sign(μ_i − μ_j)·sign(g_i − g_j), a tie being
    0. All pairs of a scope count alike, so a paper with more runs says more.

    - tau: Kendall's τ, of all pairs; it mixes underfitted runs with fitted ones.
    - tau_at_loss: of the pairs whose training losses, or `FLOOR` if that is more, are within a factor of `BAND`.
    - psi: the granulated coefficient of Jiang et al. 2020 (Fantastic generalization measures and where to find them):
      the mean over environments, each the pairs of a group that differ in one setting and no other.
    - sign_error: the robust sign error of Dziugaite et al. 2020 (In search of robust measures of generalization): the
      share of pairs ordered against `expected_sign` in the environment with the largest, a tie being half of one. They
      weigh a pair by how surely its gaps differ, given the number of test images; here all pairs count alike.

    A group needs `FEWEST` runs, an environment as many pairs, and a τ as many in its scope; else there is no number.
    The interval is the 95 % percentile interval of a bootstrap over runs, within groups, in which a pair weighs as
    often as both of its runs are drawn; fewer than `ORDERED` pairs in an order without exception have none. That of the
    sign error lies too high, as a largest one of noisy numbers does.

    Args:
        lines: the frame of `wide`.

    Returns:
        `COLUMNS`: scope is `OVERALL` or a paper, coefficient one of `COEFFICIENTS`, and parts counts groups for a τ and
        environments for the others.
    """
    groups, scopes, found = _groups(over_seeds(lines)), [OVERALL, *lines.paper.unique()], []
    for target, quantity in product(TARGETS, COMPARED):
        sums = [(group.paper, one) for group in groups if (one := _sums(group, quantity, target))]
        for scope in scopes:
            own = [one for paper, one in sums if scope in (OVERALL, paper)]
            lines_of_scope = _coefficients(own, expected_sign(quantity, target))
            found += [(scope, quantity, target, *line) for line in lines_of_scope]
    frame = pd.DataFrame(found, columns=COLUMNS)
    return frame.sort_values("scope", key=lambda column: column.map(scopes.index), kind="stable", ignore_index=True)


def _groups(means: pd.DataFrame) -> list[Group]:
    settings = [json.loads(text) for text in means.settings]
    means = means.assign(settings=settings, loss=[str(own.get("loss")) for own in settings])
    groups = means.groupby(["paper", *NETWORK, "loss"], sort=False)
    groups = [(paper, runs) for (paper, *_), runs in groups if len(runs) >= FEWEST]
    return [
        Group(paper, runs, _masks(runs), resamples(len(runs), stream(0, "bootstrap", place)))
        for place, (paper, runs) in enumerate(groups)
    ]


def _masks(runs: pd.DataFrame) -> np.ndarray:
    loss = np.log(np.maximum(runs.train_loss.to_numpy(), FLOOR))
    pairs = np.triu(np.ones((len(runs), len(runs))), 1)
    alone: dict[str, np.ndarray] = {}
    for (i, one), (j, other) in combinations(enumerate(runs.settings), 2):
        changed = [key for key in one.keys() | other.keys() if one.get(key) != other.get(key)]
        if len(changed) == 1:
            alone.setdefault(changed[0], np.zeros_like(pairs))[i, j] = 1
    return np.array([pairs, pairs * (np.abs(np.subtract.outer(loss, loss)) <= np.log(BAND)), *alone.values()])


def _sums(group: Group, first: str, second: str) -> tuple[int, np.ndarray, np.ndarray] | None:
    """Return the runs that have both quantities and their `pair_sums`; None if they are few, or all the same."""
    x, y = (group.runs[name].to_numpy() for name in (first, second))
    known = ~np.isnan(x) & ~np.isnan(y)
    x, y = x[known], y[known]
    if len(x) < FEWEST or not np.ptp(x) or not np.ptp(y):
        return None
    return len(x), *pair_sums(x, y, group.masks[:, known][:, :, known], group.counts[:, known])


def _coefficients(sums: Sequence[tuple[int, np.ndarray, np.ndarray]], side: int) -> list[tuple]:
    """Return coefficient, value, low, high, runs, pairs and parts of the groups of one scope."""
    rows, runs = [], sum(count for count, *_ in sums)
    for name in COEFFICIENTS:
        place = {RAW: slice(0, 1), AT_LOSS: slice(1, 2)}.get(name, slice(2, None))
        parts = [np.stack(one)[:, place] for _, *one in sums]
        enough = 1 if name in (RAW, AT_LOSS) else FEWEST
        parts = np.concatenate(parts, 1) if parts else np.empty((2, 0, 1))
        parts = parts[:, parts[1, :, 0] >= enough]
        pairs, value = int(parts[1, :, 0].sum()), np.full(1, np.nan)
        if pairs >= FEWEST and (side or name != SIGN_ERROR):
            # A sample may have no pair of an environment.
            ratio = np.ma.divide(*(parts.sum(1, keepdims=True) if enough == 1 else parts))
            ratio = ((1 - side * ratio) / 2).max(0) if name == SIGN_ERROR else ratio.mean(0)
            value = np.ma.filled(ratio, np.nan)
        low, high = percentile_interval(value[1:])  # The first sample is all runs once.
        if low == high and pairs < ORDERED:
            low = high = np.nan
        rows.append((name, value[0], low, high, runs, pairs, parts.shape[1]))
    return rows


def expected_sign(quantity: str, target: str) -> int:
    """Return the correlation's sign if flatter, or quieter, minima generalize better; 0 if the papers leave it open."""
    flatter = {"lower": -1, "higher": 1, None: 0}[QUANTITIES[quantity].flatter]
    return flatter if target == "test_accuracy" else -flatter


def sides(lines: pd.DataFrame) -> pd.Series:
    """Return 1 for lines of `correlate` whose interval is where flatter, or quieter, minima generalize better, −1 for
    the other side of 0, and 0 if it includes 0 or there is none. Lines without a number or an expected sign are left
    out.
    """
    expected = pd.Series(map(expected_sign, lines.quantity, lines.target), lines.index, dtype=float)
    side = ((lines.low > 0).astype(int) - (lines.high < 0).astype(int)) * expected
    return side[(expected != 0) & lines.value.notna()]
