"""Figures of the gradient noise along the runs of a table: its tail index beside loss and accuracy, and its norms."""

import math
import textwrap

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from whysgd.errors import UserError
from whysgd.report.colours import PALETTE
from whysgd.report.figures import STYLE, plt
from whysgd.report.landscapes import drawn_rows
from whysgd.report.tail_figures import heading, level, line_colours, wrapped

COLOURS = tuple(PALETTE[index] for index in (5, 6, 4, 7, 2, 3, 0, 1))
START, END = PALETTE[3], PALETTE[6]
DASHED = (0, (3, 1.5))


def plot_noise_course(table: dict, noise: pd.DataFrame, histories: pd.DataFrame, setting: str):
    """Tail index, training loss and accuracies along the steps, a colour for each run of a table.

    The line of the tail index is the mean over the seeds that have not ended, its band reaches from the lowest to the
    highest end of their 95 % intervals. Losses and accuracies have a line for each seed. A dot is where a seed ended.

    Args:
        table: as `whysgd.study.papers.tables_at` has it.
        noise: the lines of the noise.csv of its runs, with run and seed.
        histories: the tidy frame of its paper.
        setting: on what was measured, for the title.
    """
    rows = drawn_rows(table)
    noise, histories = (frame[frame.run.isin(rows)] for frame in (noise, histories))
    if noise.empty:
        raise UserError(f"{table['title']}: the noise of no run was measured, so there is nothing to draw")
    evaluated = histories.dropna(subset=["train_loss"])
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 3, figsize=(11.5, 4.1))
        handles = []
        for (run, label), colour in zip(rows.items(), COLOURS * len(rows), strict=False):
            handles.append(Line2D([], [], color=colour, label=label))
            _tail_course(axes[0], noise[noise.run == run], colour)
            for _, lines in evaluated[evaluated.run == run].groupby("seed"):
                for axis, column, style in (
                    (axes[1], "train_loss", "-"), (axes[2], "train_accuracy", "-"), (axes[2], "test_accuracy", DASHED),
                ):  # fmt: skip
                    axis.plot(lines.step, lines[column], ls=style, color=colour, lw=1.1)
                    _ended(axis, lines, column, colour)
        level(axes[0], "tail_index")
        axes[0].set_ylabel("tail index of gradient noise")
        axes[1].set(ylabel="training loss (each run's own)", yscale="log")
        axes[2].set_ylabel("accuracy [%]")
        _steps(axes[0], noise.step.max())
        if len(evaluated):
            _logarithmic(axes[1].yaxis, *evaluated.train_loss.agg(["min", "max"]))
        for axis in axes[1:]:
            axis.set(xscale="log", xlabel="update steps")
            if len(evaluated):
                axis.set_xlim(evaluated.step.min() / 1.15, evaluated.step.max() * 1.15)
                _logarithmic(axis.xaxis, *axis.get_xlim())
        for name, style in (("accuracy on the training images", "-"), ("on the test images", DASHED)):
            handles.append(Line2D([], [], color="#555555", ls=style, label=name))
        figure.legend(handles=handles, loc="outside lower center", ncols=1 + -(-len(rows) // 2), frameon=False)
        figure.suptitle(heading(table, noise, setting, 11.5), fontsize=10)
    return figure


def plot_noise_norms(table: dict, norms: pd.DataFrame, runs: pd.DataFrame, setting: str):
    """Histograms of the noise norms ‖U_b‖ over the mini-batches, at the start and at the end of each run's first seed.

    Norms are in units of √(mean_b ‖U_b‖²), which stands in the title of the panel. If the entries of U_b were
    independent normal numbers of one variance, the norm would be a chi variable with as many degrees of freedom as
    there are parameters: 95 % of them would lie in the black span.

    Args:
        table: as `whysgd.study.papers.tables_at` has it.
        norms: the lines of the noise_norms.csv of its runs, with run and seed.
        runs: the tidy frame of its paper.
        setting: on what was measured, for the title.
    """
    found = {run: (label, _ends(norms[norms.run == run])) for run, label in drawn_rows(table).items()}
    drawn = {run: (label, ends) for run, (label, ends) in found.items() if ends}
    if not drawn:
        raise UserError(f"{table['title']}: the noise of no run was measured, so there is nothing to draw")
    across = min(2, len(drawn))
    down = -(-len(drawn) // across)
    size = (5.0 * across, 2.7 * down + 1.1)
    everything = np.concatenate([scaled for _, ends in drawn.values() for _, _, scaled in ends])
    counts = [len(scaled) for _, ends in drawn.values() for _, _, scaled in ends]
    low, high = max(everything.min(), 1e-3 * everything.max()) / 1.05, everything.max() * 1.05
    edges = np.geomspace(low, high, int(np.clip(2.5 * max(counts) ** 0.5, 10, 40)) + 1)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(down, across, figsize=size, squeeze=False, sharex=True)
        for axis in axes.flat[len(drawn) :]:
            axis.remove()
        for axis, (run, (label, ends)) in zip(axes.flat, drawn.items(), strict=False):
            for (_, _, scaled), colour in zip(ends, (START, END), strict=False):
                shares = np.histogram(np.maximum(scaled, edges[0]), edges)[0] / len(scaled)
                axis.stairs(100 * shares, edges, fill=True, color=colour, alpha=0.55)
            width = half_width(int(runs[runs.run == run].parameters.iloc[0]))
            axis.axvspan(1 - width, 1 + width, color="black", lw=1.2)
            axis.set_title(f"{label}\n{_told(ends)}; Gaussian ± {100 * width:.2g} %", fontsize=8.5)
            axis.set(xscale="log", ylabel="mini-batches [%]")
            axis.tick_params(labelbottom=True)
            _logarithmic(axis.xaxis, low, high)
        for axis in axes[-1]:
            axis.set_xlabel("noise norm ‖U‖ / root mean square")
        handles = [
            *(Patch(color=c, alpha=0.55, label=name) for c, name in ((START, "at the start"), (END, "at the end"))),
            Line2D([], [], color="black", lw=2, label="isotropic Gaussian noise, 95 %"),
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
        counted = " or ".join(str(count) for count in sorted(set(counts)))
        said = f"{setting}; {counted} mini-batches, first seed"
        figure.suptitle(wrapped(size[0], table["title"], said), fontsize=10)
    return figure


def plot_layer_norms(table: dict, layers: pd.DataFrame, setting: str):
    """Norms of each layer's weights, and of their mean gradient, along the steps of each run's first seed.

    Args:
        table: as `whysgd.study.papers.tables_at` has it.
        layers: the lines of the layers.csv of its runs, with run and seed; biases are not drawn.
        setting: on what was measured, for the title.
    """
    weights = layers[layers.layer.str.endswith("weight")]
    rows = {run: label for run, label in drawn_rows(table).items() if (weights.run == run).any()}
    if not rows:
        raise UserError(f"{table['title']}: the noise of no run was measured, so there is nothing to draw")
    colours = line_colours(list(range(weights.groupby("run").layer.nunique().max())))
    size = (max(6.0, 3.4 * len(rows)), 5.6)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(2, len(rows), figsize=size, sharex="col", sharey="row", squeeze=False)
        for column, (run, label) in zip(axes.T, rows.items(), strict=True):
            mine = weights[weights.run == run]
            mine = mine[mine.seed == mine.seed.min()].sort_values("step", kind="stable")
            names = list(dict.fromkeys(mine.layer))
            for number, name in enumerate(names):
                lines = mine[mine.layer == name]
                column[0].plot(lines.step, lines.weight_norm, color=colours[number], lw=1.3, label=f"{number + 1}")
                column[1].plot(lines.step, lines.gradient_norm, color=colours[number], lw=1.3)
            for axis, quantity in zip(column, ("weight_norm", "gradient_norm"), strict=True):
                axis.set_yscale("log")
                positive = weights[weights[quantity] > 0][quantity]
                _logarithmic(axis.yaxis, positive.min(), positive.max())
                _steps(axis, mine.step.max())
            column[0].set(title=textwrap.fill(label, 34), xlabel="")
        axes[0][0].set_ylabel("norm of the weights")
        axes[1][0].set_ylabel("norm of their mean gradient")
        longest = max(axes[0], key=lambda axis: len(axis.lines))
        handles, labels = longest.get_legend_handles_labels()
        figure.legend(handles, labels, title="layer", loc="outside right center", frameon=False)
        figure.suptitle(wrapped(size[0], table["title"], f"{setting}; first seed"), fontsize=10)
    return figure


def half_width(parameters: int) -> float:
    """Half of the width that holds 95 % of ‖U‖/√(E ‖U‖²), for U of M independent normal entries of one variance.

    ‖U‖²/σ² is a χ² variable of M degrees of freedom, of relative standard deviation √(2/M); the norm has half of that.
    """
    return 1.96 / math.sqrt(2 * parameters)


def _tail_course(axis, lines: pd.DataFrame, colour: str) -> None:
    """Mean and band over the seeds, at the steps that every seed has until it ends; a dot at each seed's end."""
    ends = lines.groupby("seed").step.max()
    common = set.intersection(*(set(mine.step) | set(lines[lines.step > ends[seed]].step)
                                for seed, mine in lines.groupby("seed")))  # fmt: skip
    course = lines[lines.step.isin(common)].groupby("step").agg(
        mean=("tail_index", "mean"), low=("tail_index_low", "min"), high=("tail_index_high", "max")
    )  # fmt: skip
    axis.plot(course.index, course["mean"], color=colour, lw=1.3)
    axis.fill_between(course.index, course.low, course.high, color=colour, alpha=0.2, lw=0)
    for _, mine in lines.sort_values("step").groupby("seed"):
        _ended(axis, mine, "tail_index", colour)


def _ended(axis, lines: pd.DataFrame, column: str, colour: str) -> None:
    axis.plot(lines.step.iloc[-1:], lines[column].iloc[-1:], "o", color=colour, ms=3.5, mew=0)


def _ends(norms: pd.DataFrame) -> list[tuple[int, float, np.ndarray]]:
    """At the start and the end of the first seed: the step, the root mean square norm, and the norms in its units."""
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
    """The root mean square norms, and how many steps lie between them."""
    return f"root mean square {' → '.join(f'{rms:.3g}' for _, rms, _ in ends)} in {ends[-1][0]:,} steps"


def _steps(axis, last: int) -> None:
    """Steps on a logarithmic axis that begins with 0."""
    axis.set_xscale("symlog", linthresh=1, linscale=0.4)
    axis.set_xlim(-0.15, last * 1.15)
    powers = [10**k for k in range(12) if 10**k <= last]
    axis.xaxis.set_major_locator(FixedLocator([0, *powers]))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xlabel("update steps")


def _logarithmic(part, low: float, high: float) -> None:
    """Plain numbers on a logarithmic axis, the more of them the less it spans."""
    part.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1, 3) if high < 1e4 * low else (1,)))
    part.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}" if value < 1e6 else f"{value:.0e}"))
    part.set_minor_formatter(NullFormatter())
    part.set_minor_locator(NullLocator())
