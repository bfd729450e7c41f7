"""The picture of descent on a loss with two weights: paths over its contours, and the same as an animation."""

from collections.abc import Mapping
from itertools import cycle
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from whysgd.files import write_atomically
from whysgd.report.colours import PALETTE
from whysgd.report.style import SMALL, STYLE, WIDE, add_heading, log_ticks, plt
from whysgd.study.spec import FULL_BATCH
from whysgd.training.two_weights import losses, valley

HEIGHT, ANIMATION_SIZE, DPI = 5.6, (6.0, 5.6), 120  # inches; pixels per inch of the animation
# As in the tables: SGD's is the first; then descent's, and those of clipping and of the penalty.
DRAWS, COLOURS = PALETTE[0], tuple(PALETTE[index] for index in (1, 3, 5, 2, 4, 6))
FLOOR, LEVELS, DARKEST = 1e-3, 10, 0.42  # of L − min L; what is lower is white
GRID = 241
SMALLEST_LOSS = 1e-8
# Of the animation: the steps that it shows are denser at the start.
FRAMES = 72
SLOW_STEPS, SLOW_MS, FRAME_MS, LAST_MS = 10, 300, 80, 2500


@plt.rc_context(STYLE)
def plot_trajectories(settings: Mapping, frame: pd.DataFrame):
    """Return the figure of all methods' paths over the contours of L, and beside them L and its sharpness over steps.

    Of a method that draws micro-batches the first seed is a full line, the others are faint. The valleys are dashed,
    with a star where they are flattest. In a valley sharper than 2/η full batch is not stable. `settings` are the
    `trajectories` of a paper, and `frame` has `whysgd.study.trajectories.COLUMNS` of its methods.
    """
    steps, lowest, limit = settings["steps"], _lowest(settings), 2 / settings["lr"]
    figure, axes = plt.subplot_mosaic(
        [["plane", "loss"], ["plane", "sharpness"]], figsize=(WIDE, HEIGHT), width_ratios=[1.5, 1]
    )
    _background(axes["plane"], settings)
    for path, look in _paths(settings, frame):
        axes["plane"].plot(path.w1, path.w2, **look)
        axes["loss"].plot(path.step, path.loss - lowest, **look)
        axes["sharpness"].plot(path.step, path.sharpness, **look)
        if path.seed.iloc[0] == 0:
            axes["plane"].plot(*path[["w1", "w2"]].iloc[-1], **_mark(look))
    axes["sharpness"].axhline(limit, color="black", ls=":", lw=1)
    axes["sharpness"].annotate(
        f"2/η = {limit:g}", (1, limit), (-2, -3), xycoords=("axes fraction", "data"), textcoords="offset points",
        ha="right", va="top", fontsize=SMALL,
    )  # fmt: skip
    axes["loss"].set(yscale="log", ylabel="L − min L", ylim=(SMALLEST_LOSS, None))
    log_ticks(axes["loss"].yaxis, *axes["loss"].get_ylim())
    axes["sharpness"].set(ylabel="largest eigenvalue of ∇²L", xlabel="steps", ylim=(0, None))
    ticks = sorted({0, steps, *(10**power for power in range(1, 9) if 10**power < 0.8 * steps)})
    for axis in (axes["loss"], axes["sharpness"]):
        axis.set_xscale("symlog", linthresh=10, linscale=0.5)
        axis.set_xticks(ticks, list(map(str, ticks)))
        axis.set_xlim(0, steps)
    axes["loss"].tick_params(labelbottom=False)
    _label(figure, settings, len(settings["methods"]), *message(settings, frame))
    return figure


@plt.rc_context(STYLE)
def animate_trajectories(settings: Mapping, frame: pd.DataFrame, path: str | Path) -> None:
    """Write the paths as they grow, over the contours, as a GIF that loops; the same paths give the same file."""
    steps = shown_steps(settings["steps"])
    figure, axis = plt.subplots(figsize=ANIMATION_SIZE, dpi=DPI)
    _background(axis, settings)
    _label(figure, settings, 2, *message(settings, frame))
    moving = []
    for line, look in _paths(settings, frame):
        artists = axis.plot([], [], **look, animated=True)
        if line.seed.iloc[0] == 0:
            artists += axis.plot([], [], **_mark(look), animated=True)
        moving.append((line[["w1", "w2"]].to_numpy(), artists))
    number = axis.text(0.98, 0.97, "", transform=axis.transAxes, ha="right", va="top", fontsize=12, animated=True)
    figure.canvas.draw()
    # Constrained layout has done its part; what does not move is drawn once.
    figure.set_layout_engine("none")
    still = figure.canvas.copy_from_bbox(figure.bbox)
    images = []
    for step in steps:
        figure.canvas.restore_region(still)
        number.set_text(f"step {step}")
        for weights, artists in moving:
            artists[0].set_data(*weights[: step + 1].T)
            for mark in artists[1:]:
                mark.set_data(*weights[step : step + 1].T)
        for artist in (number, *(artist for _, artists in moving for artist in artists)):
            axis.draw_artist(artist)
        images.append(Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB"))
    plt.close(figure)
    # The last image has all the colours; images of one palette make a small file.
    palette = images[-1].quantize(method=Image.Quantize.MAXCOVERAGE, kmeans=1)
    first, *others = (image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images)
    times = [SLOW_MS if step <= SLOW_STEPS else FRAME_MS for step in steps[:-1]] + [LAST_MS]
    write_atomically(
        path,
        lambda file: first.save(file, save_all=True, append_images=others, duration=times, loop=0, optimize=False),
    )


def shown_steps(steps: int) -> list[int]:
    """Return the steps that the animation shows, from 0 to the last, at most `FRAMES`."""
    return sorted({0, *np.geomspace(1, steps, FRAMES - 1).round().astype(int).tolist()})


def _colours(settings: Mapping) -> dict[str, str]:
    """Return the colour of each method: `DRAWS` if it draws micro-batches."""
    free, methods = cycle(COLOURS), settings["methods"].items()
    return {name: next(free) if method["batch"] == FULL_BATCH else DRAWS for name, method in methods}


def _paths(settings: Mapping, frame: pd.DataFrame):
    """Return each path, its lines in order, with its look, from the lowest to the topmost.

    Methods that draw micro-batches lie below the others; their further seeds lie lowest.
    """
    colours, found = _colours(settings), []
    for (name, seed), path in frame.groupby(["method", "seed"], sort=False):
        draws = colours[name] == DRAWS
        look = {"lw": 1.1, "alpha": 0.85} if draws else {"lw": 2.0, "alpha": 1.0}
        look = {"lw": 0.6, "alpha": 0.35} if seed else look
        layer = {"zorder": 3 - draws - 0.5 * (seed > 0), "solid_joinstyle": "round"}
        found.append((path.sort_values("step"), {"color": colours[name], **look, **layer}))
    return sorted(found, key=lambda item: item[1]["zorder"])


def _mark(look: Mapping) -> dict:
    """Return the look of the place where a path ends."""
    return {"marker": "o", "ls": "none", "color": look["color"], "mec": "white", "mew": 1.2, "ms": 8,
            "zorder": look["zorder"] + 3}  # fmt: skip


def _background(axis, settings: Mapping) -> None:
    """Draw contours of L − min L, equally far apart on a logarithmic scale, the valleys and the start."""
    points, (left, right, low, high) = np.asarray(settings["points"], dtype=float), settings["window"]
    first, second = np.linspace(left, right, GRID), np.linspace(low, high, GRID)
    loss = losses(np.stack(np.meshgrid(first, second), -1), points) - _lowest(settings)
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


def _lowest(settings: Mapping) -> float:
    """Return min L."""
    points = np.asarray(settings["points"], dtype=float)
    return float(losses(np.array([1.0, valley(points)]), points))


def message(settings: Mapping, frame: pd.DataFrame) -> tuple[str, str]:
    """Return for which methods the largest eigenvalue of the Hessian ends lowest and highest, and the one of each.

    It is the median over a method's seeds and the last tenth of the steps.
    """
    late = frame[frame.step >= 0.9 * settings["steps"]]
    ends = late.groupby("method").sharpness.median().sort_values()
    labels = {name: method["label"] for name, method in settings["methods"].items()}
    flat, sharp = ends.index[0], ends.index[-1]
    lowest, highest = (f"{labels[name]}, at {ends[name]:.1f}" for name in (flat, sharp))
    numbers = "; ".join(f"{labels[name]} {value:.1f}" for name, value in ends.items())
    title = f"The largest Hessian eigenvalue ends lowest for {lowest}, and highest for {highest}"
    return title, f"Largest eigenvalue of the Hessian at the end: {numbers}"


def _label(figure, settings: Mapping, columns: int, title: str, numbers: str) -> None:
    """Add a heading, and a legend of so many columns."""
    handles, seeds = [], settings["seeds"]
    for name, colour in _colours(settings).items():
        label = settings["methods"][name]["label"] + (f", {seeds} seeds" if colour == DRAWS and seeds > 1 else "")
        handles.append(plt.Line2D([], [], color=colour, lw=2, marker="o", mec="white", ms=7, label=label))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False)
    parts = f"{len(settings['points'])} points in micro-batches of {settings['micro_batch']}"
    steps = f"η = {settings['lr']:g}, {settings['steps']} steps"
    add_heading(figure, title, f"{settings['title']}: squared error of w₁w₂x, {parts}, {steps}", numbers)
