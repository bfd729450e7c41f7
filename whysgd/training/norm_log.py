"""The log of a run's gradient norms, one line for each step, and reading such a log for another run.

The file is CSV with the columns `seed`, `step`, from 1, and `gradient_norm`, the L2 norm of the step's gradient before
any transform. A history.csv has these columns, too, for some of the steps; a log without `seed` is that of any seed.
"""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from whysgd.errors import UserError


def norms_csv(seeds: Mapping[int, Iterable[float]]) -> str:
    """The log of the norms of steps 1, 2, … of each seed; nine digits give an fp32 number back exactly."""
    lines = [f"{seed},{step},{norm:.9g}" for seed, norms in seeds.items() for step, norm in enumerate(norms, 1)]
    return "\n".join(["seed,step,gradient_norm", *lines]) + "\n"


def read_norms(path: Path, steps: int, seed: int) -> np.ndarray:
    """The norms at steps 1 … `steps` of a log.

    Where the log has a step its norm is taken as it is; between two steps of the log it is interpolated linearly, and
    before the first and after the last step it is theirs, as far as the log's own largest spacing. A longer log is read
    as far as needed. The log of a run that diverged ends with a norm that is not finite: from there on it has none.

    Args:
        path: a CSV file with the columns step and gradient_norm.
        steps: of the run that needs them.
        seed: whose norms to take, where the log has several.

    Returns:
        norms (steps,), float64; nan from the step on at which the other run diverged.

    Raises:
        UserError: the file is missing or is no such log, its steps do not increase, a norm is negative, or it is too
            short.
    """
    logged, norms = _read_columns(path, seed)
    if len(logged) == 0 or not (np.diff(logged) > 0).all():
        raise UserError(f"{path}: the column step must increase from line to line, and have a line")
    if (norms < 0).any():
        raise UserError(f"{path}: gradient_norm at step {logged[norms < 0][0]:.0f} must be at least 0")
    spacing = np.diff(logged).max(initial=1)
    lost = logged[~np.isfinite(norms)]
    if max(logged[0] - 1, 0 if len(lost) else steps - logged[-1]) >= spacing:
        reach = f"steps {logged[0]:.0f} to {logged[-1]:.0f}, {spacing:.0f} apart at most"
        raise UserError(f"{path}: is a log of {reach}; a run of {steps} steps needs one that covers them")
    wanted, fine = np.arange(1, steps + 1), np.isfinite(norms)
    if not fine.any():
        return np.full(steps, np.nan)
    read = np.interp(wanted, logged[fine], norms[fine])
    return np.where(wanted >= lost[0], np.nan, read) if len(lost) else read


def _read_columns(path: Path, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The columns step and gradient_norm, of the lines that have both."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            own = [line for line in csv.DictReader(file) if int(line.get("seed", seed)) == seed]
        lines = [(line["step"], line["gradient_norm"]) for line in own]
        pairs = [(float(step), float(norm)) for step, norm in lines if step and norm]
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; the run whose gradient norms are grafted comes first") from None
    except KeyError as error:
        raise UserError(f"{path}: has no column {error}; needs step and gradient_norm") from None
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path}: not a log of gradient norms ({error})") from None
    table = np.array(pairs, dtype=float).reshape(-1, 2)
    return table[:, 0], table[:, 1]
