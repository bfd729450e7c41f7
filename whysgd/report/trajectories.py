"""The picture of descent on a loss with two weights: paths over its contours."""

from collections.abc import Mapping
from itertools import cycle

import numpy as np
import pandas as pd

from whysgd.report.colours import PALETTE
from whysgd.report.style import SMALL, STYLE, WIDE, add_heading, log_ticks, plt
from whysgd.study.spec import FULL_BATCH
from whysgd.training.two_weights import losses, valley

HEIGHT = 5.6  # inches
# As in the tables: SGD's is the first; then descent's, and those of clipping and of the penalty.
DRAWS, COLOURS = PALETTE[0], tuple(PALETTE[index] for index in (1, 3, 5, 2, 4, 6))
FLOOR, LEVELS, DARKEST = 1e-3, 10, 0.42  # of L − min L; what is lower is white
GRID = 241
SMALLEST_LOSS = 1e-8


@plt.rc_context(STYLE)
def plot_trajectories(settings: Mapping, frame: pd.DataFrame):
    """Return the figure of all methods' paths over the contours of L, and beside them L and its sharpness over steps.

    Of a method that draws micro-batches the first seed is a full line, the others are faint. The valleys are dashed,
    with a star where they are flattest. In a valley sharper than 2/η full batch is not stable. `settings` are the
    `trajectories` of a paper, and `frame` has `whysgd.study.trajectories.COLUMNS` of its methods.
    """
    steps, limit, points = settings["steps"], 2 / settings["lr"], np.asarray(settings["points"], dtype=float)
    lowest = float(losses(np.array([1.0, valley(points)]), points))
    parts, widths = [["plane", "loss"], ["plane", "sharpness"]], [1.5, 1]
    figure, axes = plt.subplot_mosaic(parts, figsize=(WIDE, HEIGHT), width_ratios=widths)
    plane, loss, sharpness = axes.values()
    _background(plane, settings, points, lowest)
    for path, look in _paths(settings, frame):
        plane.plot(path.w1, path.w2, **look)
        loss.plot(path.step, path.loss - lowest, **look)
        sharpness.plot(path.step, path.sharpness, **look)
        if path.seed.iloc[0] == 0:
            mark = {"color": look["color"], "mec": "white", "mew": 1.2, "ms": 8, "zorder": look["zorder"] + 3}
            plane.plot(*path[["w1", "w2"]].iloc[-1], "o", **mark)
    sharpness.axhline(limit, color="black", ls=":", lw=1)
    sharpness.annotate(
        f"2/η = {limit:g}", (1, limit), (-2, -3), xycoords=("axes fraction", "data"), textcoords="offset points",
        ha="right", va="top", fontsize=SMALL,
    )  # fmt: skip
    loss.set(yscale="log", ylabel="L − min L", ylim=(SMALLEST_LOSS, None))
    log_ticks(loss.yaxis, *loss.get_ylim())
    sharpness.set(ylabel="largest eigenvalue of ∇²L", xlabel="steps", ylim=(0, None))
    ticks = sorted({0, steps, *(10**power for power in range(1, 9) if 10**power < 0.8 * steps)})
    for axis in (loss, sharpness):
        axis.set_xscale("symlog", linthresh=10, linscale=0.5)
        axis.set_xticks(ticks, list(map(str, ticks)))
        axis.set_xlim(0, steps)
    loss.tick_params(labelbottom=False)
    _label(figure, settings, frame)
    return figure


def _coloured(settings: Mapping):
    """Yield name, settings and colour of each method, and whether it draws micro-batches."""
    colours = cycle(COLOURS)
    for name, method in settings["methods"].items():
        draws = method["batch"] != FULL_BATCH
        yield name, method, DRAWS if draws else next(colours), draws


def _paths(settings: Mapping, frame: pd.DataFrame):
    """Return each path, its lines in order, with its look: methods that draw micro-batches lie below the others, and
    their further seeds lie lowest.
    """
    found = []
    for name, _, colour, draws in _coloured(settings):
        for seed, path in frame[frame.method == name].groupby("seed"):
            width, alpha = (0.6, 0.35) if seed else (1.1, 0.85) if draws else (2.0, 1.0)
            look = {"color": colour, "lw": width, "alpha": alpha, "zorder": 3 - draws - 0.5 * (seed > 0)}
            found.append((path.sort_values("step"), {**look, "solid_joinstyle": "round"}))
    return sorted(found, key=lambda item: item[1]["zorder"])


def _background(axis, settings: Mapping, points: np.ndarray, lowest: float) -> None:
    """Draw contours of L − min L, equally far apart on a logarithmic scale, the valleys and the start."""
    left, right, low, high = settings["window"]
    first, second = np.linspace(left, right, GRID), np.linspace(low, high, GRID)
    loss = losses(np.stack(np.meshgrid(first, second), -1), points) - lowest
    levels = np.geomspace(FLOOR, max(loss.max(), 10 * FLOOR), LEVELS)
    greys = plt.get_cmap("Greys")(np.linspace(0.0, DARKEST, LEVELS - 1))
    axis.contourf(first, second, loss.clip(FLOOR), levels=levels, colors=greys, zorder=0)
    axis.contour(first, second, loss, levels=levels[1:-1], colors="black", linewidths=0.3, alpha=0.5, zorder=1)
    product = valley(points)
    for side in (-1, 1):
        along = side * np.geomspace(1e-2, 1e2, 2001)
        axis.plot(along, product / along, "--", color="black", lw=0.8, alpha=0.7, zorder=1)
        flattest = side * abs(product) ** 0.5
        axis.plot(flattest, np.copysign(flattest, product * side), "*", color="white", mec="black", ms=12, zorder=4)
    axis.plot(*settings["start"], "o", color="black", ms=6, zorder=4)
    axis.annotate("start", settings["start"], (7, 3), textcoords="offset points", zorder=4)
    axis.grid(visible=False)
    axis.set(xlim=(left, right), ylim=(low, high), aspect="equal", xlabel="w₁", ylabel="w₂")


def message(settings: Mapping, frame: pd.DataFrame) -> tuple[str, str]:
    """Return for whom the largest Hessian eigenvalue ends lowest and highest, by medians over seeds and the last tenth
    of the steps, and the one of each method.
    """
    late = frame[frame.step >= 0.9 * settings["steps"]]
    ends = late.groupby("method").sharpness.median().sort_values()
    told = [(settings["methods"][name]["label"], f"{value:.1f}") for name, value in ends.items()]
    (flat, low), (sharp, high) = told[0], told[-1]
    title = f"The largest Hessian eigenvalue ends lowest for {flat}, at {low}, and highest for {sharp}, at {high}"
    return title, f"Largest eigenvalue of the Hessian at the end: {'; '.join(map(' '.join, told))}"


def _label(figure, settings: Mapping, frame: pd.DataFrame) -> None:
    """Add a heading and a legend."""
    handles = []
    for _, method, colour, draws in _coloured(settings):
        seeds = f", {settings['seeds']} seeds" if draws and settings["seeds"] > 1 else ""
        look = {"color": colour, "lw": 2, "marker": "o", "mec": "white", "ms": 7}
        handles.append(plt.Line2D([], [], **look, label=method["label"] + seeds))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    parts = f"{len(settings['points'])} points in micro-batches of {settings['micro_batch']}"
    setting = f"{settings['title']}: squared error of w₁w₂x, {parts}, η = {settings['lr']:g}, {settings['steps']} steps"
    title, numbers = message(settings, frame)
    add_heading(figure, title, setting, numbers)
