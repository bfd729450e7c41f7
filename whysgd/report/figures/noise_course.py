"""Tail index of the gradient noise, training loss and accuracies along the steps, a colour for each run of a table."""

import pandas as pd

from whysgd.report.figures._grid import mark_level
from whysgd.report.figures._panels import draw_course, drawn_rows, shared
from whysgd.report.style import QUIET, WIDE, add_legend, log_ticks, plt, step_axis

NEEDS = ("noise", "histories")
CAPTION = (
    "Tail index of the gradient noise along the run (median over the seeds that have not ended, with a band from the "
    "lowest to the highest end of their 95 % intervals), beside the loss and the accuracies of each seed; a dot is "
    "where a seed ended. The left axis begins with step 0."
)
HEIGHT = 3.7  # inches
DASHED = (0, (3, 1.5))
LINES = (("train_loss", 1, "-"), ("train_accuracy", 2, "-"), ("test_accuracy", 2, DASHED))  # with panel and style


def noise_course(table, frames):
    """Draw the median tail index over seeds with a band, and losses and accuracies with a line for each seed."""
    noise = frames["noise"]
    rows = drawn_rows(table, set(noise.run))
    evaluated = frames["histories"].dropna(subset=["train_loss"])
    figure, axes = plt.subplots(1, 3, figsize=(WIDE, HEIGHT))
    for run, label in rows.items():
        colour = table["colours"][run]
        axes[0].plot([], [], color=colour, label=label)
        _tail_course(axes[0], noise[noise.run == run], colour)
        for _, lines in evaluated[evaluated.run == run].groupby("seed"):
            for quantity, panel, style in LINES:
                axes[panel].plot(lines.step, lines[quantity], ls=style, color=colour, lw=1.1)
                _ended(axes[panel], lines, quantity, colour)
    for name, style in (("accuracy on the training images", "-"), ("on the test images", DASHED)):
        axes[2].plot([], [], color=QUIET, ls=style, label=name)
    mark_level(axes[0], "tail_index")
    step_axis(axes[0], noise.step.max())
    axes[0].set_ylabel("tail index of gradient noise")
    axes[1].set(ylabel="training loss (each run's own)", yscale="log")
    axes[2].set_ylabel("accuracy [%]")
    for axis in axes[1:]:
        axis.set(xscale="log", xlabel="update steps")
        if len(evaluated):
            axis.set_xlim(evaluated.step.min() / 1.15, evaluated.step.max() * 1.15)
            log_ticks(axis.xaxis, *axis.get_xlim())
    if len(evaluated):
        log_ticks(axes[1].yaxis, *evaluated.train_loss.agg(["min", "max"]))
    add_legend(figure, "lower center", ncols=1 + -(-len(rows) // 2))
    return figure


def _tail_course(axis, lines: pd.DataFrame, colour: str) -> None:
    """Draw median and band over the seeds, at the steps that every seed has until it ends; a dot at each seed's end."""
    course = shared(lines.dropna(subset="tail_index"), "step").groupby("step").agg(
        median=("tail_index", "median"), low=("tail_index_low", "min"), high=("tail_index_high", "max")
    )  # fmt: skip
    draw_course(axis, course, colour)
    for _, mine in lines.sort_values("step").groupby("seed"):
        _ended(axis, mine, "tail_index", colour)


def _ended(axis, lines: pd.DataFrame, quantity: str, colour: str) -> None:
    axis.plot(lines.step.iloc[-1:], lines[quantity].iloc[-1:], "o", color=colour, ms=3.5, mew=0)


def message(table, frames):
    """Say between which tail indices the runs end, and in how many of them it is clearly below the Gaussian's."""
    noise = frames["noise"].sort_values("step")
    ends = noise.groupby(["run", "seed"]).last().groupby("run").agg({"tail_index": "median", "tail_index_high": "max"})
    starts = noise.groupby(["run", "seed"]).first().groupby("run").tail_index.median()
    below = int((ends.tail_index_high < 2).sum())
    low, high = ends.tail_index.min(), ends.tail_index.max()
    between = f"at {low:.2f}" if len(ends) == 1 else f"between {low:.2f} and {high:.2f}"
    numbers = (f"{label} {starts[run]:.2f} → {ends.tail_index[run]:.2f}"
               for run, label in drawn_rows(table, set(noise.run)).items())  # fmt: skip
    share = f"all {below}" if below == len(ends) else f"{below} of {len(ends)}"
    title = f"The tail index ends {between}, in {share} networks clearly below the Gaussian's 2"
    return title, f"From start to end: {'; '.join(numbers)}"
