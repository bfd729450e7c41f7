"""The log of a run's gradient norms, one line for each step, and reading such a log for another run.

The file is CSV with the columns `seed`, `step`, from 1, and `gradient_norm`, the L2 norm of the step's gradient before
any transform. The log of a run that diverged ends with a norm that is not finite.
"""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from whysgd.errors import UserError


def norms_csv(seeds: Mapping[int, Iterable[float]]) -> str:
    """Return the log of the norms of steps 1, 2, … of each seed; nine digits give an fp32 number back exactly."""
    lines = [f"{seed},{step},{norm:.9g}" for seed, norms in seeds.items() for step, norm in enumerate(norms, 1)]
    return "\n".join(["seed,step,gradient_norm", *lines]) + "\n"


def read_norms(path: Path, steps: int, seed: int) -> np.ndarray:
    """Return the norms (steps,) of a seed at steps 1 … `steps` of a log; nan from the step on at which it diverged.

    Raises:
        UserError: the file is missing or is no such log, or it does not have these steps of this seed.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            own = [line for line in csv.DictReader(file) if int(line["seed"]) == seed]
        norms = np.array([float(line["gradient_norm"]) for line in own])
        complete = [int(line["step"]) for line in own] == list(range(1, len(own) + 1))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; the run whose gradient norms are grafted comes first") from None
    except KeyError as error:
        raise UserError(f"{path}: has no column {error}; needs seed, step and gradient_norm") from None
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path}: not a log of gradient norms ({error})") from None
    lost = np.logical_or.accumulate(~np.isfinite(norms))
    if not complete or (norms < 0).any() or (len(norms) < steps and not lost.any()):
        raise UserError(f"{path}: must have a norm, not below 0, at each of steps 1 to {steps} of seed {seed}")
    found = np.full(steps, np.nan)
    found[: len(norms)] = np.where(lost, np.nan, norms)[:steps]
    return found
