"""The look of all pictures: fonts, headings, legends, ticks, colours of values, and how a picture is saved."""

import textwrap
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from whysgd.files import write_atomically
from whysgd.report.colours import PALETTE

STYLE = {
    "svg.hashsalt": "whysgd", "svg.fonttype": "none", "font.size": 9, "axes.titlesize": 10,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.3,
    "figure.constrained_layout.use": True,
    # A label may have signs of money, and no text of ours is a formula.
    "text.parse_math": False,
}  # fmt: skip
LETTERS_PER_INCH = 13  # of a heading
QUIET = "#555555"
SEQUENTIAL = "viridis"
# The strong colours of the palette first.
STRONG = tuple(PALETTE[index] for index in (5, 6, 4, 7, 2, 3, 0, 1))


def save_figure(figure: Figure, *paths: str | Path) -> None:
    """Write a figure in each of the formats its paths end in; the same figure gives the same SVG."""
    for path in map(Path, paths):
        metadata = {"Date": None} if path.suffix == ".svg" else None
        with plt.rc_context(STYLE):
            write_atomically(path, lambda file, metadata=metadata: figure.savefig(file, dpi=150, metadata=metadata))
    plt.close(figure)


def add_heading(figure: Figure, *texts: str) -> None:
    """Write texts above a figure, each in lines that fit its width; a number stays beside what it counts."""
    lines = []
    for text in texts:
        for phrase in ("n = ", " to ", " seed", " networks"):
            text = text.replace(phrase, phrase.replace(" ", "\xa0"))
        lines += textwrap.wrap(text, int(LETTERS_PER_INCH * figure.get_figwidth()))
    figure.suptitle("\n".join(lines).replace("\xa0", " "), fontsize=10)


def add_legend(figure: Figure, place: str, **options) -> None:
    """Add one legend for all panels, each label once, outside of them at a place such as "lower center"."""
    handles = {}
    for axis in figure.axes:
        handles |= {label: handle for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    if handles:
        figure.legend(handles.values(), handles, loc=f"outside {place}", frameon=False, **options)


def say(axis, text: str) -> None:
    """Write a text into the middle of a panel that has nothing to show."""
    axis.annotate(text, (0.5, 0.5), xycoords="axes fraction", ha="center", va="center", color=QUIET)


def number(value: float, _=None) -> str:
    """Return a number for an axis: 10, 0.5, 20,000, 2e+06."""
    return f"{value:,g}" if abs(value) < 1e6 else f"{value:.0e}"


def log_ticks(part, low: float, high: float) -> None:
    """Write plain numbers on a logarithmic axis (`axis.xaxis`), the more of them the less it spans."""
    part.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1, 3) if high < 1e4 * low else (1,)))
    part.set_major_formatter(FuncFormatter(number))
    part.set_minor_formatter(NullFormatter())


def step_axis(axis, last: int) -> None:
    """Make the horizontal axis one of steps, logarithmic, but with 0."""
    axis.set_xscale("symlog", linthresh=1, linscale=0.4)
    axis.set_xlim(-0.15, last * 1.15)
    axis.xaxis.set_major_locator(FixedLocator([0, *(10**power for power in range(12) if 10**power <= last)]))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xlabel("update steps")


def value_colours(values: list) -> dict:
    """Return a colour for each value: of a sequential map for numbers, of the palette for texts."""
    if any(isinstance(value, str) for value in values):
        return {value: STRONG[index % len(STRONG)] for index, value in enumerate(values)}
    # Without the lightest and the darkest end of the map.
    shades = np.linspace(0.02, 0.9, len(values)) if len(values) > 1 else [0.02]
    return dict(zip(values, map(colormaps[SEQUENTIAL], shades), strict=True))
