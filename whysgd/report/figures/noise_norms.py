"""Quantiles of the gradient noise's norms over the mini-batches against those of isotropic Gaussian noise."""

import math

import numpy as np
import pandas as pd
from scipy.special import ndtri

from whysgd.errors import UserError
from whysgd.report.figures._panels import drawn_rows, even, panels
from whysgd.report.style import FAINT, add_legend, number, plt

NEEDS = ("noise_norms",)
CAPTION = (
    "Quantiles of the norms of the gradient noise over the mini-batches, at the start and at the end of each run's "
    "first seed, in units of their root mean square, against those of a normal number. If the entries of the noise were"
    " independent normal numbers of one variance, the dots would lie on the dashed line."
)
HEIGHT = 2.5  # inches


def noise_norms(table, frames):
    """Draw ‖U_b‖ in units of √(mean_b ‖U_b‖²), sorted, over normal quantiles."""
    drawn = _drawn(table, frames)
    figure, axes = panels(len(drawn), even(len(drawn), 2), HEIGHT, sharex=True, sharey=True)
    for axis, (run, (label, width, ends)) in zip(axes, drawn.items(), strict=True):
        parts = zip(ends, (FAINT, table["colours"][run]), ("start", "end"), strict=False)
        for (_, _, scaled), colour, name in parts:
            quantiles = ndtri((np.arange(len(scaled)) + 0.5) / len(scaled))
            look = {"color": colour, "ms": 3, "mew": 0, "label": f"at the {name}" if axis is axes[0] else None}
            axis.plot(quantiles, np.sort(scaled), "o", **look, zorder=3)
        line = np.array(axis.get_xlim())
        axis.plot(line, 1 + width * line, "--", color="black", lw=1, label="isotropic Gaussian noise")
        axis.set_title(f"{label}\nspread {_times(ends, width)} that of Gaussian noise", loc="left")
        axis.set(xlabel="normal quantile", xlim=line)
    figure.supylabel("noise norm ‖U‖ / root mean square", fontsize=plt.rcParams["font.size"])
    add_legend(figure, "lower center", ncols=3)
    return figure


def gaussian_width(parameters: int) -> float:
    """Return the standard deviation of ‖U‖/√(E ‖U‖²), for M independent normal entries of one variance.

    ‖U‖²/σ² is a χ² variable of M degrees of freedom, of relative standard deviation √(2/M); the norm has half of that.
    """
    return 1 / math.sqrt(2 * parameters)


def _drawn(table, frames) -> dict[str, tuple[str, float, list]]:
    """Return the label of each run, the width that Gaussian norms would have, and the norms of its first seed."""
    norms, parameters = frames["noise_norms"], frames["runs"].groupby("run").parameters.first()
    if "split" in norms:  # Records have no such column: they keep the norms of the training images alone.
        norms = norms[norms.split == "train"]
    rows = {run: (label, _ends(norms[norms.run == run])) for run, label in drawn_rows(table).items()}
    drawn = {run: (label, gaussian_width(parameters[run]), ends) for run, (label, ends) in rows.items() if ends}
    if not drawn:
        raise UserError(f"{table['title']}: the gradients of no run have noise, so there is nothing to draw")
    return drawn


def _ends(norms: pd.DataFrame) -> list[tuple[int, float, np.ndarray]]:
    """Return, at start and end of the first seed, the step, the root mean square norm, and the norms in its units."""
    first = norms[norms.seed == norms.seed.min()]
    parts = []
    for step, lines in first[first.step.isin([first.step.min(), first.step.max()])].groupby("step"):
        values = lines.noise_norm.to_numpy(dtype=float)
        rms = np.sqrt(np.mean(values**2))
        if not rms > 0:
            return []
        parts.append((step, rms, values / rms))
    return parts


def _times(ends: list, width: float) -> str:
    return " → ".join(f"{_short(scaled.std() / width)}×" for _, _, scaled in ends)


def _short(value: float) -> str:
    return number(float(f"{value:.2g}"))


def message(table, frames):
    """Say how many times as wide as Gaussian noise's the norms are spread at the end."""
    drawn = _drawn(table, frames)
    times = [ends[-1][2].std() / width for _, width, ends in drawn.values()]
    spread = " to ".join(dict.fromkeys(map(_short, (min(times), max(times)))))
    numbers = (f"{label}: {_times(ends, width)} as wide from start to end, root mean square "
               f"{' → '.join(f'{rms:.3g}' for _, rms, _ in ends)} in {ends[-1][0]:,} steps"
               for label, width, ends in drawn.values())  # fmt: skip
    return f"At the end noise norms spread {spread} times as wide as Gaussian noise's", "; ".join(numbers)
