"""Histograms of the gradient noise's norms over the mini-batches, at the start and at the end of each run."""

import math

import numpy as np
import pandas as pd

from whysgd.report.colours import PALETTE
from whysgd.report.figures._panels import drawn_rows, panels
from whysgd.report.style import add_heading, add_legend, log_ticks

NEEDS = ("noise_norms",)
CAPTION = (
    "Norms of the gradient noise over the mini-batches, at the start and at the end of each run's first seed, in "
    "units of their root mean square. If the entries of the noise were independent normal numbers of one variance, 95"
    " % of the norms would lie in the black span, as wide as the panel's title says."
)
PANEL, MARGIN = (5.0, 2.7), (0.0, 1.1)  # inches
LOOKS = ({"color": PALETTE[3], "label": "at the start"}, {"color": PALETTE[6], "label": "at the end"})


def noise_norms(table, frames, setting):
    """Draw norms ‖U_b‖ in units of √(mean_b ‖U_b‖²), which stands in the title of the panel."""
    norms, runs = frames["noise_norms"], frames["runs"]
    if "split" in norms:  # Records of older code have the training images' alone.
        norms = norms[norms.split == "train"]
    drawn = {run: ends for run in drawn_rows(table) if (ends := _ends(norms[norms.run == run]))}
    everything = [scaled for ends in drawn.values() for _, _, scaled in ends]
    counts = sorted({len(scaled) for scaled in everything})
    low, high = min(map(min, everything)), max(map(max, everything))
    low, high = max(low, 1e-3 * high) / 1.05, high * 1.05
    edges = np.geomspace(low, high, int(np.clip(2.5 * counts[-1] ** 0.5, 10, 40)) + 1)
    across = min(2, len(drawn))
    figure, axes = panels(len(drawn), across, PANEL, MARGIN, sharex=True)
    for axis, (run, ends) in zip(axes, drawn.items(), strict=True):
        for (_, _, scaled), look in zip(ends, LOOKS, strict=False):
            shares = np.histogram(np.maximum(scaled, edges[0]), edges)[0] / len(scaled)
            axis.stairs(100 * shares, edges, fill=True, alpha=0.55, **look)
        width = half_width(int(runs[runs.run == run].parameters.iloc[0]))
        axis.axvspan(1 - width, 1 + width, color="black", lw=1.2, label="isotropic Gaussian noise, 95 %")
        axis.set_title(f"{drawn_rows(table)[run]}\n{_told(ends)}; Gaussian ± {100 * width:.2g} %", fontsize=8.5)
        axis.set(xscale="log", ylabel="mini-batches [%]")
        log_ticks(axis.xaxis, low, high)
    for axis in axes[-across:]:
        axis.set_xlabel("noise norm ‖U‖ / root mean square")
    add_legend(figure, "lower center", ncols=3)
    add_heading(figure, table["title"], f"{setting}; {' or '.join(map(str, counts))} mini-batches, first seed")
    return figure


def half_width(parameters: int) -> float:
    """Return half of the width that holds 95 % of ‖U‖/√(E ‖U‖²), for M independent normal entries of one variance.

    ‖U‖²/σ² is a χ² variable of M degrees of freedom, of relative standard deviation √(2/M); the norm has half of that.
    """
    return 1.96 / math.sqrt(2 * parameters)


def _ends(norms: pd.DataFrame) -> list[tuple[int, float, np.ndarray]]:
    """Return, at start and end of the first seed, the step, the root mean square norm, and the norms in its units."""
    first = norms[norms.seed == norms.seed.min()]
    parts = []
    for step in dict.fromkeys((first.step.min(), first.step.max())) if len(first) else ():
        values = first[first.step == step].noise_norm.to_numpy(dtype=float)
        rms = float(np.sqrt(np.mean(values**2)))
        if not rms > 0:
            return []
        parts.append((int(step), rms, values / rms))
    return parts


def _told(ends: list[tuple[int, float, np.ndarray]]) -> str:
    """Return the root mean square norms, and how many steps lie between them."""
    return f"root mean square {' → '.join(f'{rms:.3g}' for _, rms, _ in ends)} in {ends[-1][0]:,} steps"
