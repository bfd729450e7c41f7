"""Loss landscapes around the runs of a table: profiles along a line, and contours and surfaces over a plane."""

import math
import textwrap
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.colors import LogNorm
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from whysgd.errors import UserError
from whysgd.measures.catalog import LANDSCAPE_COLUMNS
from whysgd.report.figures import STYLE, plt
from whysgd.report.recorded import unpacked

LOSS, ACCURACY = "#0072B2", "#D55E00"
TOP = 5.0  # nats; of the profiles' loss axis, as in the code of Li et al., Visualizing the loss landscape (2018)
SPAN = 1e4  # of the contours' and surfaces' losses: what is lower than the highest by more has the lowest colour
LEVELS = 13
NOTHING = "no points"


def read_points(files: Iterable[str | Path], kind: str = "line") -> pd.DataFrame:
    """The points of all parts of landscapes in one frame; the part of a diverged run has none.

    Args:
        files: the parts, or the records of runs.
        kind: "line" or "plane", which of a record's landscapes is meant.

    Raises:
        UserError: a file is missing or damaged; the message names it.
    """
    parts = []
    for file in files:
        try:
            part = unpacked(Path(file), kind) if Path(file).suffix == ".json" else pd.read_csv(file)
        except (OSError, ValueError) as error:  # Pandas has its own for damaged files, all of them ValueErrors.
            raise UserError(f"{file}: not readable ({error})") from None
        if missing := [column for column in LANDSCAPE_COLUMNS if column not in part]:
            raise UserError(f"{file}: not the points of a landscape: no column {missing[0]}")
        parts.append(part)
    full = [part for part in parts if len(part)]
    return pd.concat(full, ignore_index=True) if full else pd.DataFrame(columns=LANDSCAPE_COLUMNS)


def drawn_rows(table: dict, kind: str = "line") -> dict[str, str]:
    """The runs that have a panel, with its title; a run in two rows, at two metrics, has one.

    Args:
        table: as `whysgd.study.papers.tables_at` has it.
        kind: "line", or "plane" for the table's `planes` only.
    """
    found, wanted = {}, table.get("planes") if kind == "plane" else None
    for row in table["rows"]:
        if row["planned"] and (wanted is None or row["run"] in wanted):
            label = f"{row['label']} ({row['column']})" if row["column"] else row["label"]
            found.setdefault(row["run"], label)
    if not found:
        raise UserError(f"{table['title']}: no run of the table is made at this scale, so there is nothing to draw")
    return found


def plot_landscape(table: dict, points: pd.DataFrame, setting: str):
    """Loss and accuracy along a random direction from the weights of each run, a panel for each row of a table.

    Each seed is a line. Dashed is the loss that was trained on, with its penalty, where it is another one. All panels
    share both axes; the loss is cut off at `TOP`.

    Args:
        table: as `whysgd.study.papers.tables_at` has it.
        points: the frame of `read_points`, of its runs.
        setting: on what was measured, for the title.
    """
    rows = drawn_rows(table)
    lines = points[(points.kind == "line") & points.run.isin(rows)]
    losses = lines[["loss", "full_loss"]].to_numpy(dtype=float)
    losses = losses[np.isfinite(losses)]
    top = min(TOP, 1.05 * losses.max()) if len(losses) and losses.max() > 0 else 1.0
    figure, axes = _panels(table, rows, setting, sharey=True)
    with plt.rc_context(STYLE):
        for place, (axis, (run, label)) in enumerate(zip(axes, rows.items(), strict=True)):
            right = axis.twinx()
            right.spines["right"].set_visible(True)
            right.grid(visible=False)
            right.set_ylim(0, 102)
            right.tick_params(axis="y", colors=ACCURACY)
            axis.tick_params(axis="y", colors=LOSS)
            axis.set(ylim=(0, top), xlabel="α")
            axis.set_title(_title(label), fontsize=9)
            mine = lines[lines.run == run]
            _profile(axis, right, mine)
            last = (place + 1) % _across(len(rows)) == 0
            right.tick_params(labelright=last)
            if last:
                right.set_ylabel("accuracy [%]", color=ACCURACY)
            if place % _across(len(rows)) == 0:
                axis.set_ylabel("loss [nats]", color=LOSS)
            if not np.isfinite(mine[["loss", "accuracy"]].to_numpy(dtype=float)).any():
                _say(axis)
        handles = {}
        for axis in figure.axes:
            handles |= {label: handle for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
        if handles:
            figure.legend(handles.values(), handles, loc="outside lower center", ncols=len(handles), frameon=False)
    return figure


def _profile(axis, right, lines: pd.DataFrame) -> None:
    """Draw each seed of one run; where a point has no loss, the line is interrupted."""
    for _, line in lines.sort_values("alpha").groupby("seed"):
        alone = lines.seed.nunique() == 1
        look = {"lw": 1.5 if alone else 0.9, "alpha": 1.0 if alone else 0.7}
        axis.plot(line.alpha, line.loss, color=LOSS, label="loss", **look)
        if not np.allclose(line.full_loss.astype(float), line.loss, rtol=1e-3, equal_nan=True):
            axis.plot(line.alpha, line.full_loss, "--", color=LOSS, label="loss with penalties", **look)
        right.plot(line.alpha, line.accuracy, ":", color=ACCURACY, label="training accuracy", **look)


def plot_contours(table: dict, points: pd.DataFrame, setting: str):
    """Contours of the loss over a plane of two random directions, a panel for each of a table's `planes`.

    All panels share their levels, which are equally far apart on a logarithmic scale; a cross is at the weights. If a
    run has planes of several seeds, the first one is drawn.

    Args:
        table, points, setting: as `plot_landscape` has them.
    """
    rows = drawn_rows(table, "plane")
    planes = {run: plane(points, run) for run in rows}
    low, high = loss_range(planes)
    levels = np.geomspace(low, high, LEVELS)
    figure, axes = _panels(table, rows, setting, sharey=True, square=True)
    with plt.rc_context(STYLE):
        norm = LogNorm(low, high)
        for place, (axis, (run, label)) in enumerate(zip(axes, rows.items(), strict=True)):
            axis.grid(visible=False)
            axis.set(xlabel="α", aspect="equal", xticks=(-1, 0, 1), yticks=(-1, 0, 1))
            axis.set_title(_title(label), fontsize=9)
            if place % _across(len(rows)) == 0:
                axis.set_ylabel("β")
            if planes[run] is None:
                _say(axis)
                axis.set(xlim=(-1, 1), ylim=(-1, 1))
                continue
            alpha, beta, loss = planes[run]
            loss = np.ma.masked_invalid(loss).clip(low, high)
            axis.contourf(alpha, beta, loss, levels=levels, norm=norm, cmap="viridis_r")
            axis.contour(alpha, beta, loss, levels=levels, colors="black", linewidths=0.3, alpha=0.6)
            axis.plot(0, 0, "x", color=ACCURACY, ms=7, mew=1.8)
        _colour_bar(figure, axes, norm)
    return figure


def plot_surface(table: dict, points: pd.DataFrame, setting: str):
    """The loss over a plane of two random directions as a surface, a panel for each of a table's `planes`.

    Height and colour are log10 of the loss, on axes that all panels share. If a run has planes of several seeds, the
    first one is drawn.

    Args:
        table, points, setting: as `plot_landscape` has them.
    """
    rows = drawn_rows(table, "plane")
    planes = {run: plane(points, run) for run in rows}
    low, high = loss_range(planes)
    norm = LogNorm(low, high)
    figure, axes = _panels(table, rows, setting, projection="3d")
    with plt.rc_context(STYLE):
        for axis, (run, label) in zip(axes, rows.items(), strict=True):
            axis.set_title(_title(label), fontsize=9, y=0.98)
            axis.view_init(elev=32, azim=-58)
            axis.set(zlim=(math.log10(low), math.log10(high)), xlim=(-1, 1), ylim=(-1, 1))
            axis.set_xlabel("α", labelpad=-7)
            axis.set_ylabel("β", labelpad=-7)
            axis.tick_params(labelsize=7, pad=-3)
            axis.set(xticks=(-0.5, 0, 0.5), yticks=(-0.5, 0, 0.5))
            axis.zaxis.set_major_locator(MaxNLocator(4, integer=True))
            axis.zaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{10.0**value:g}"))
            if planes[run] is None:
                axis.text2D(0.5, 0.5, NOTHING, transform=axis.transAxes, ha="center", color="#555555")
                continue
            alpha, beta, loss = planes[run]
            loss = np.where(np.isfinite(loss), np.clip(loss, low, high), np.nan)
            x, y = np.meshgrid(alpha, beta)
            axis.plot_surface(
                x, y, np.log10(loss), facecolors=plt.get_cmap("viridis_r")(norm(np.nan_to_num(loss, nan=high))),
                rcount=60, ccount=60, linewidth=0, antialiased=True, shade=False,
            )  # fmt: skip
        _colour_bar(figure, axes, norm)
    return figure


def plane(points: pd.DataFrame, run: str) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """α (a,), β (b,) and the loss (b, a) over the plane of a run's first seed; None if no point has a loss."""
    mine = points[(points.kind == "plane") & (points.run == run)]
    known = mine[np.isfinite(mine.loss.astype(float))]
    if known.empty:
        return None
    mine = mine[mine.seed == known.seed.min()]
    grid = mine.assign(loss=mine.loss.astype(float)).pivot_table(
        index="beta", columns="alpha", values="loss", dropna=False
    )
    if min(grid.shape) < 2:
        return None
    return grid.columns.to_numpy(dtype=float), grid.index.to_numpy(dtype=float), grid.to_numpy()


def loss_range(planes: dict) -> tuple[float, float]:
    """The lowest and the highest loss of all planes, at most `SPAN` apart, so that a logarithm can show both."""
    losses = np.concatenate([[], *(found[2].ravel() for found in planes.values() if found is not None)])
    losses = losses[np.isfinite(losses) & (losses > 0)]
    if not len(losses):
        return 0.1, 1.0
    high = losses.max()
    low = max(losses.min(), high / SPAN)
    return (low, high) if low < high else (low / 2, 2 * high)


def _across(count: int) -> int:
    """Panels beside each other: at most four, and lines of them as even as can be."""
    return -(-count // -(-count // 4))


def _panels(
    table: dict, rows: dict, setting: str, sharey: bool = False, projection: str | None = None, square: bool = False
):
    """A figure with one axis for each run."""
    across = _across(len(rows))
    down = -(-len(rows) // across)
    # Of square panels the width is the limit, so that what is above and below them finds its place.
    size = (max(5.0, 2.7 * across + 1.2), (3.0 if square else 2.6) * down + 1.1)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            down, across, figsize=size, squeeze=False, sharex=sharey, sharey=sharey,
            subplot_kw={"projection": projection},
        )  # fmt: skip
        for axis in axes.flat[len(rows) :]:
            # A place that is kept makes all panels one size; three-dimensional ones are anyway.
            axis.remove() if projection else axis.set_visible(False)
        for axis in axes.flat[: len(rows)]:
            axis.tick_params(labelbottom=True)
        figure.suptitle("\n".join([table["title"], *textwrap.wrap(setting, int(13 * size[0]))]), fontsize=10)
    return figure, axes.flat[: len(rows)]


def _colour_bar(figure, axes, norm) -> None:
    bar = figure.colorbar(
        plt.cm.ScalarMappable(norm, "viridis_r"), ax=list(axes), label="loss [nats]", shrink=0.8, pad=0.03
    )
    bar.ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if norm.vmax / norm.vmin < 100 else (1,)))
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _title(label: str) -> str:
    return "\n".join(textwrap.wrap(label, 30))


def _say(axis) -> None:
    axis.text(0.5, 0.5, NOTHING, transform=axis.transAxes, ha="center", va="center", color="#555555")


VIEWS = {"landscape": plot_landscape, "contours": plot_contours, "surface": plot_surface}
