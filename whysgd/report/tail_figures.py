"""Figures of a table's grid: a measured quantity against the axis of its columns, and as a map of its cells."""

import textwrap
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.colors import Normalize
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

from whysgd.errors import UserError
from whysgd.report.colours import PALETTE
from whysgd.report.figures import STYLE, plt
from whysgd.report.measures import titled

# A level worth a line, by quantity.
LEVELS = {"tail_index": (2.0, "Gaussian: 2"), "tail_index_active": (2.0, "Gaussian: 2")}
# Of a sequential map, without its lightest and darkest ends.
SEQUENTIAL = "viridis"
FIRST, LAST = 0.02, 0.9
NAMES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "mnist": "MNIST"}


def grid_frame(table: dict, measures: pd.DataFrame) -> pd.DataFrame:
    """A line for each seed of each cell of a table's grid: run, seed, the axes, and the `value` of its metric.

    Args:
        table: as `whysgd.study.papers.tables_at` has it, with a grid.
        measures: the tidy frame of its paper.
    """
    lines = []
    known = dict(list(measures.groupby(["run", "quantity"])[["seed", "value"]]))
    for row in table["rows"]:
        if row["planned"] and (row["run"], row["metric"]) in known:
            found = known[row["run"], row["metric"]]
            lines += [{"run": row["run"], "seed": seed, "value": value, **row["axes"]}
                      for seed, value in found.itertuples(index=False)]  # fmt: skip
    axes = [*table["grid"]["rows"], *table["grid"]["columns"]]
    return pd.DataFrame(lines, columns=["run", "seed", *axes, "value"]).dropna(subset="value")


def panels(table: dict, frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame, str, str]]:
    """The panels of a grid's figures: title, lines of its frame, the axis of lines or rows, and that of the columns.

    There is one for each combination of the rows' axes but the last one.
    """
    *outer, inner = table["grid"]["rows"]
    across = next(iter(table["grid"]["columns"]))
    if frame.empty:
        raise UserError(f"{table['title']}: nothing was measured of the table's grid, so there is nothing to draw")
    groups = frame.groupby(outer, sort=False) if outer else [((), frame)]
    found = []
    for key, part in groups:
        found.append((", ".join(map(named, key)), part, inner, across))
    return found


def plot_width(table: dict, measures: pd.DataFrame, setting: str):
    """A grid's quantity against the axis of its columns: a line for each value of the rows' last axis.

    Lines are means over seeds, dots are seeds. Numbers have colours of a sequential map, texts those of the palette.

    Args:
        table, measures: as for `grid_frame`.
        setting: on what was measured, for the title.
    """
    frame = grid_frame(table, measures)
    drawn = panels(table, frame)
    metric = table["metric"]
    inner, across = drawn[0][2:]
    colours = line_colours(list(dict.fromkeys(row["axes"][inner] for row in table["rows"] if row["planned"])))
    size = (3.5 * len(drawn) + 1.6, 3.9)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(drawn), figsize=size, sharey=True, sharex=True, squeeze=False)
        for axis, (title, part, _, _) in zip(axes[0], drawn, strict=True):
            for value, lines in part.groupby(inner, sort=False):
                means = lines.groupby(across).value.mean()
                axis.plot(means.index, means, "-", color=colours[value], lw=1.4, label=named(value), zorder=3)
                axis.plot(lines[across], lines.value, "o", color=colours[value], ms=3, alpha=0.55, mew=0, zorder=2)
            axis.set(title=title, xlabel=across)
            level(axis, metric)
            _plain_numbers(axis, sorted(frame[across].unique()))
        axes[0][0].set_ylabel(titled(metric))
        handles = {}
        for axis in axes[0]:
            handles |= {label: handle for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
        order = [named(value) for value in colours if named(value) in handles]
        figure.legend(
            [handles[name] for name in order], order, title=inner, loc="outside right center", frameon=False
        )  # fmt: skip
        figure.suptitle(heading(table, frame, setting, size[0]), fontsize=10)
    return figure


def plot_heatmap(table: dict, measures: pd.DataFrame, setting: str):
    """A grid's quantity as a map: the mean over seeds in each cell, with its number; colours are those of all panels.

    Args:
        table, measures: as for `grid_frame`.
        setting: on what was measured, for the title.
    """
    frame = grid_frame(table, measures)
    drawn = panels(table, frame)
    inner, across = drawn[0][2:]
    rows, columns = (list(dict.fromkeys(row["axes"][axis] for row in table["rows"] if row["planned"]))
                     for axis in (inner, across))  # fmt: skip
    means = frame.groupby(["run"]).value.mean()
    scale = Normalize(means.min(), means.max() if means.max() > means.min() else means.min() + 1)
    colours = colormaps[SEQUENTIAL]
    digits = max(0, 2 - int(np.floor(np.log10(max(means.abs().max(), 1e-9)))))
    size = (max(3.4, 0.5 * len(columns) + 1.0) * len(drawn) + 1.2, 0.36 * len(rows) + 1.9)
    with plt.rc_context({**STYLE, "axes.grid": False}):
        figure, axes = plt.subplots(1, len(drawn), figsize=size, sharey=True, squeeze=False)
        for axis, (title, part, _, _) in zip(axes[0], drawn, strict=True):
            cells = part.groupby([inner, across]).value.mean().unstack().reindex(index=rows, columns=columns)
            image = axis.imshow(cells, cmap=colours, norm=scale, aspect="auto")
            axis.set_facecolor("#dddddd")
            for y, x in np.ndindex(cells.shape):
                value = cells.iat[y, x]
                dark = not np.isnan(value) and scale(value) < 0.6
                text, colour = "–" if np.isnan(value) else f"{value:.{digits}f}", "white" if dark else "black"
                axis.text(x, y, text, ha="center", va="center", fontsize=7.5, color=colour)
            axis.set(title=title, xlabel=across)
            axis.set_xticks(range(len(columns)), [named(value) for value in columns])
            axis.set_yticks(range(len(rows)), [named(value) for value in rows])
            axis.tick_params(length=0)
            axis.spines[:].set_visible(False)
        axes[0][0].set_ylabel(inner)
        figure.colorbar(image, ax=axes[0].tolist(), label=titled(table["metric"]), fraction=0.05, pad=0.02)
        figure.suptitle(heading(table, frame, setting, size[0]), fontsize=10)
    return figure


def line_colours(values: list) -> dict:
    """A colour for each value of an axis: of a sequential map for numbers, of the palette for texts."""
    if any(isinstance(value, str) for value in values):
        strong = [PALETTE[index] for index in (5, 6, 4, 2, 7, 3, 0, 1)]
        return {value: strong[index % len(strong)] for index, value in enumerate(values)}
    shades = np.linspace(FIRST, LAST, len(values)) if len(values) > 1 else [FIRST]
    return dict(zip(values, map(colormaps[SEQUENTIAL], shades), strict=True))


def level(axis, metric: str) -> None:
    """The level that a quantity is compared with, as a dashed line, if there is one."""
    if metric in LEVELS:
        value, name = LEVELS[metric]
        axis.axhline(value, color="black", lw=1, ls="--", zorder=1)
        axis.annotate(
            name, (1, value), xycoords=("axes fraction", "data"), xytext=(-2, 2), textcoords="offset points",
            ha="right", va="bottom", fontsize=8,
        )  # fmt: skip


def heading(table: Mapping, frame: pd.DataFrame, setting: str, width: float) -> str:
    """Title, numbers of seeds, and on what was measured, in lines that fit the width."""
    counts = sorted(frame.groupby("run").seed.nunique().unique())
    seeds = " to ".join(str(count) for count in dict.fromkeys((counts[0], counts[-1]))) if counts else "0"
    said = f"{setting}; n = {seeds} seed{'' if seeds == '1' else 's'}"
    return wrapped(width, table["title"], said)


def wrapped(width: float, *texts: str) -> str:
    """Texts, each in lines that fit so many inches; the number of seeds or networks stays in one."""
    whole = {phrase: phrase.replace(" ", "\xa0") for phrase in ("n = ", " to ", " seed", " networks")}
    lines = []
    for text in texts:
        for phrase, unbroken in whole.items():
            text = text.replace(phrase, unbroken)
        lines += textwrap.wrap(text, int(13.5 * width))
    return "\n".join(lines).replace("\xa0", " ")


def named(value) -> str:
    """A value of an axis for readers."""
    return NAMES.get(value, value.replace("_", " ")) if isinstance(value, str) else f"{value:g}"


def _plain_numbers(axis, values: list) -> None:
    """A logarithmic axis with the values themselves as ticks, if they span more than a factor of five."""
    if any(isinstance(value, str) for value in values):
        return
    if min(values) > 0 and max(values) > 5 * min(values):
        axis.set_xscale("log", base=2)
        axis.xaxis.set_minor_formatter(NullFormatter())
    axis.xaxis.set_major_locator(FixedLocator(values))
    axis.xaxis.set_minor_locator(FixedLocator([]))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
