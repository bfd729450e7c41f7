"""Whether a measure ranks runs as test accuracy and the generalization gap do: Spearman's rank correlations."""

import numpy as np
import pandas as pd

from whysgd.measures.catalog import QUANTITIES
from whysgd.report.measures import NETWORK, over_seeds
from whysgd.streams import stream

COLUMNS = ["scope", "quantity", "target", "rho", "low", "high", "n", "networks"]
TARGETS = ("test_accuracy", "accuracy_gap", "loss_gap")
# What is compared with them: all that say something about the minimum rather than about how good the network is.
RULERS = [name for name, known in QUANTITIES.items() if known.flatter or name == "gradient_signal_to_noise"]
OVERALL = "overall"
FEWEST, RESAMPLES, LEVEL = 5, 2000, 0.95


def correlate(lines: pd.DataFrame) -> pd.DataFrame:
    """Rank correlation of each of `RULERS` with each of `TARGETS`, within each paper and over all of them.

    A run counts once, with its means over seeds: seeds of a run are not independent of one another. Sharpness of one
    network on one data set says nothing about another's, and papers differ in both: pooling all runs could show a
    correlation that no paper has, or hide one that all have. So runs are only ranked among those of their own paper,
    data set and network, and the correlations of these groups are averaged as Fisher's z = artanh ρ, weighted with
    n − 3. A group with fewer than `FEWEST` runs does not count; if none is left, there is no correlation.

    The interval is the 95 % percentile interval of a bootstrap over runs, within groups. Without any relation, that of
    a single group excludes 0 in about 4 of 100 cases from six runs on, but in 13 of 100 with five (2,000 simulated
    groups of normal numbers).

    Args:
        lines: the frame of `whysgd.report.measures.wide`.

    Returns:
        `COLUMNS`: scope is `OVERALL` or a paper, n counts runs and networks the groups.
    """
    means = over_seeds(lines)
    found = []
    for target in TARGETS:
        for ruler in RULERS:
            groups = _groups(means, ruler, target)
            scopes = {OVERALL: groups}
            for paper in means.paper.unique():
                scopes[paper] = {key: group for key, group in groups.items() if key[0] == paper}
            # The same resamples in every scope.
            resampled = {
                key: _resampled(*pair, stream(0, "bootstrap", place))
                for place, (key, pair) in enumerate(groups.items())
            }
            for scope, chosen in scopes.items():
                counts = np.array([len(x) for x, _ in chosen.values()])
                rho, low, high = np.nan, np.nan, np.nan
                if chosen:
                    rho = float(pooled(np.array([spearman(*pair) for pair in chosen.values()])[:, None], counts)[0])
                    low, high = _interval(pooled(np.array([resampled[key] for key in chosen]), counts))
                found.append((scope, ruler, target, rho, low, high, int(counts.sum()), len(chosen)))
    order = {scope: place for place, scope in enumerate([OVERALL, *means.paper.unique()])}
    frame = pd.DataFrame(found, columns=COLUMNS)
    return frame.sort_values("scope", key=lambda column: column.map(order), kind="stable", ignore_index=True)


def redundant(lines: pd.DataFrame, above: float = 0.9) -> pd.DataFrame:
    """The pairs of `RULERS` that rank runs (nearly) alike or the other way round: |ρ| over all papers above `above`.

    Args:
        lines: the frame of `whysgd.report.measures.wide`.

    Returns:
        first, second, rho, n; the strongest first.
    """
    means, pairs = over_seeds(lines), []
    for place, first in enumerate(RULERS):
        for second in RULERS[place + 1 :]:
            groups = list(_groups(means, first, second).values())
            if groups:
                counts = np.array([len(x) for x, _ in groups])
                rho = float(pooled(np.array([spearman(*pair) for pair in groups])[:, None], counts)[0])
                pairs.append((first, second, rho, int(counts.sum())))
    frame = pd.DataFrame(pairs, columns=["first", "second", "rho", "n"])
    frame = frame[frame.rho.abs() > above]
    return frame.sort_values("rho", key=lambda rho: -rho.abs(), kind="stable", ignore_index=True)


def _groups(means: pd.DataFrame, first: str, second: str) -> dict[tuple, tuple[np.ndarray, np.ndarray]]:
    """Both quantities of the runs that have both, by paper, data set and network.

    Groups of a few runs are left out, and those in which a quantity is the same for all of them.
    """
    known = means.dropna(subset=[first, second])
    return {
        key: (group[first].to_numpy(), group[second].to_numpy())
        for key, group in known.groupby(["paper", *NETWORK], sort=True)
        if len(group) >= FEWEST and group[first].nunique() > 1 and group[second].nunique() > 1
    }


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson's correlation of the ranks, equal values sharing theirs; nan if one of them does not vary."""
    return float(_weighted(x, y, np.ones((1, len(x))))[0])


def _resampled(x: np.ndarray, y: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Spearman's correlations of `RESAMPLES` draws of runs with replacement."""
    return _weighted(x, y, generator.multinomial(len(x), np.full(len(x), 1 / len(x)), size=RESAMPLES))


def _weighted(x: np.ndarray, y: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Spearman's correlations of samples that have run i counts[b, i] times, (B,).

    A run's rank in a sample is the number of those below it plus half of those equal to it, so all ranks of all samples
    are one matrix product. What is the same for all ranks does not matter.
    """
    centred = []
    for values in (x, y):
        below = (values[:, None] < values) + 0.5 * (values[:, None] == values)
        ranks = counts @ below
        # The mean rank is half of the runs, whatever the ties.
        centred.append(ranks - len(values) / 2)
    a, b = centred
    with np.errstate(invalid="ignore", divide="ignore"):
        rho = (counts * a * b).sum(1) / np.sqrt((counts * a * a).sum(1) * (counts * b * b).sum(1))
    return np.clip(rho, -1.0, 1.0)


def pooled(rho: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The average of groups' correlations, as Fisher's z with weights n − 3; a single group's is itself.

    The z of a perfect order is infinite, so it counts as one that is half a swap of neighbours away from perfect,
    |ρ| = 1 − 6 / (n³ − n): a few runs in perfect order say less than many.

    Args:
        rho: (groups, B), nan where a group has none; it is then left out.
        counts: runs of each group, (groups,).
    """
    if len(rho) == 1:
        return rho[0]
    there = ~np.isnan(rho)
    weights = there * (counts - 3.0)[:, None]
    largest = (1 - 6 / (counts**3.0 - counts))[:, None]
    z = np.arctanh(np.clip(np.where(there, rho, 0.0), -largest, largest))
    with np.errstate(invalid="ignore"):
        return np.tanh((weights * z).sum(0) / weights.sum(0))


def _interval(rho: np.ndarray) -> tuple[float, float]:
    """The percentile interval of the resamples that have a correlation."""
    rho = rho[~np.isnan(rho)]
    if not len(rho):
        return np.nan, np.nan
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(rho, [tail, 1 - tail])
    return float(low), float(high)


def expected_sign(quantity: str, target: str) -> int:
    """The correlation's sign if flatter, or quieter, minima generalize better, as the papers have it; 0 if open."""
    flatter = {"lower": -1, "higher": 1, None: 0}[QUANTITIES[quantity].flatter]
    return flatter if target == "test_accuracy" else -flatter
