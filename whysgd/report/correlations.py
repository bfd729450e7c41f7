"""Whether a measure ranks runs as test accuracy and the generalization gap do: Spearman's rank correlations."""

from itertools import combinations

import numpy as np
import pandas as pd

from whysgd.measures.catalog import QUANTITIES
from whysgd.report.measures import NETWORK, over_seeds
from whysgd.report.statistics import bootstrap, percentile_interval, pooled, spearman
from whysgd.streams import stream

COLUMNS = ["scope", "quantity", "target", "rho", "low", "high", "n", "networks"]
TARGETS = ("test_accuracy", "accuracy_gap", "loss_gap")
# What is compared with them: quantities that say something about the minimum rather than how good the network is.
COMPARED = [name for name, known in QUANTITIES.items() if known.flatter or name == "gradient_signal_to_noise"]
OVERALL = "overall"
FEWEST = 5  # runs of a group


def correlate(lines: pd.DataFrame) -> pd.DataFrame:
    """Return the rank correlation of each of `COMPARED` with each of `TARGETS`, within each paper and over all of them.

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
        for quantity in COMPARED:
            groups = _groups(means, quantity, target)
            scopes = {OVERALL: groups}
            for paper in means.paper.unique():
                scopes[paper] = {key: group for key, group in groups.items() if key[0] == paper}
            # The same resamples in every scope.
            resampled = {
                key: bootstrap(*pair, stream(0, "bootstrap", place)) for place, (key, pair) in enumerate(groups.items())
            }
            for scope, chosen in scopes.items():
                counts = np.array([len(x) for x, _ in chosen.values()])
                rho, low, high = np.nan, np.nan, np.nan
                if chosen:
                    rho = _over_groups(chosen)
                    low, high = percentile_interval(pooled(np.array([resampled[key] for key in chosen]), counts))
                found.append((scope, quantity, target, rho, low, high, int(counts.sum()), len(chosen)))
    order = {scope: place for place, scope in enumerate([OVERALL, *means.paper.unique()])}
    frame = pd.DataFrame(found, columns=COLUMNS)
    return frame.sort_values("scope", key=lambda column: column.map(order), kind="stable", ignore_index=True)


def redundant(lines: pd.DataFrame, above: float = 0.9) -> pd.DataFrame:
    """Return the pairs of `COMPARED` that rank runs nearly alike or the other way round: |ρ| over all papers is large.

    Args:
        lines: the frame of `whysgd.report.measures.wide`.

    Returns:
        first, second, rho, n; the strongest first.
    """
    means, pairs = over_seeds(lines), []
    for first, second in combinations(COMPARED, 2):
        groups = _groups(means, first, second)
        pairs += [(first, second, _over_groups(groups), sum(len(x) for x, _ in groups.values()))] if groups else []
    frame = pd.DataFrame(pairs, columns=["first", "second", "rho", "n"])
    frame = frame[frame.rho.abs() > above]
    return frame.sort_values("rho", key=lambda rho: -rho.abs(), kind="stable", ignore_index=True)


def _groups(means: pd.DataFrame, first: str, second: str) -> dict[tuple, tuple[np.ndarray, np.ndarray]]:
    """Return both quantities of the runs that have both, by paper, data set and network.

    Groups of a few runs are left out, and those in which a quantity is the same for all of them.
    """
    known = means.dropna(subset=[first, second])
    return {
        key: (group[first].to_numpy(), group[second].to_numpy())
        for key, group in known.groupby(["paper", *NETWORK], sort=True)
        if len(group) >= FEWEST and group[first].nunique() > 1 and group[second].nunique() > 1
    }


def _over_groups(groups: dict[tuple, tuple[np.ndarray, np.ndarray]]) -> float:
    counts = np.array([len(x) for x, _ in groups.values()])
    return float(pooled(np.array([spearman(*pair) for pair in groups.values()]), counts)[0])


def expected_sign(quantity: str, target: str) -> int:
    """Return the correlation's sign if flatter, or quieter, minima generalize better; 0 if the papers leave it open."""
    flatter = {"lower": -1, "higher": 1, None: 0}[QUANTITIES[quantity].flatter]
    return flatter if target == "test_accuracy" else -flatter
