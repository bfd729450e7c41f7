"""How far a run's average micro-batch gradient norms are from those of another one, early in training."""

import numpy as np
import pandas as pd

EARLY_PART = 10


def early_norm_ratios(histories: pd.DataFrame, run: str, reference: str) -> list[float]:
    """Return the mean of |ln(norm of run / norm of reference)| over the first tenth of training, for each seed.

    norm² is the mean of ‖g_B‖² over micro-batches, the history's `micro_batch_norm2`. The lines are those that both
    runs of a seed have, up to a tenth of the steps; if there is none, their first one. A seed without such a line,
    because one of the runs was not made or watches nothing, has no number; one in which a run ended before the tenth,
    or had a norm of 0, has an infinite one: it imitates nothing.

    Args:
        histories: the frame of `read_histories`, of one paper.
        run, reference: names of runs.
    """
    norms = histories[histories.micro_batch_norm2.notna()]
    ratios = []
    for seed, mine in norms[norms.run == run].groupby("seed"):
        theirs = norms[(norms.run == reference) & (norms.seed == seed)]
        both = mine.merge(theirs, on="step", suffixes=("", "_reference")).sort_values("step")
        ends = histories[histories.run.isin([run, reference]) & (histories.seed == seed)].groupby("run").step.max()
        tenth = ends.max() / EARLY_PART  # a run that diverged is shorter than the other one
        early = both[both.step <= tenth]
        early = both.head(1) if early.empty else early
        if ends.min() < tenth or (early.filter(like="norm2") == 0).any(axis=None):
            ratios.append(np.inf)
        elif len(early):
            logs = 0.5 * np.log(early.micro_batch_norm2 / early.micro_batch_norm2_reference)
            ratios.append(float(logs.abs().mean()))
    return ratios
