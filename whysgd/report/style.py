"""The look of all pictures: sizes, type, headings, legends, ticks, and how a picture is saved with what it says."""

import io
import re
import textwrap
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from whysgd.files import write_atomically, write_text
from whysgd.report.colours import PALETTE

# Widths of a picture in inches of 96 pixels: 720 and 1,100 on a page, where type then has one size in all of them.
NARROW, WIDE = 7.5, 1100 / 96
PIXELS = 2 * 96  # of a PNG, per inch
TITLE, TEXT, SMALL = 11.5, 9, 8  # points
QUIET, FAINT = "#555555", "#c8c8c8"
# What an SVG's neutral colours become where the reader's screen is dark: those of the page. Colours that mean something
# stay; a text upon these is drawn in `ON_LIGHT` or `ON_DARK`, which no screen changes.
DARK = {
    "#ffffff": "#15181c", "#000000": "#e4e7eb", "#222222": "#e4e7eb", QUIET: "#a5adb8", FAINT: "#4a525c",
    "#b0b0b0": "#a5adb8",
}  # fmt: skip
ON_LIGHT, ON_DARK = "#010101", "#fefefe"
SEQUENTIAL = "viridis"
STYLE = {
    "svg.hashsalt": "whysgd", "svg.fonttype": "none", "font.size": TEXT, "axes.titlesize": TEXT,
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": QUIET, "axes.linewidth": 0.8,
    "axes.grid": True, "grid.alpha": 0.3, "axes.axisbelow": True, "xtick.color": QUIET, "ytick.color": QUIET,
    "axes.labelcolor": "#222222", "text.color": "#222222", "figure.constrained_layout.use": True,
    # A label may have signs of money, and no text of ours is a formula.
    "text.parse_math": False,
}  # fmt: skip
LINE = 1.3  # of text, in units of its size


def save_figure(figure: Figure, *paths: str | Path) -> None:
    """Write a figure in each of the formats its paths end in; the same figure gives the same SVG.

    In the files' metadata are its title and, as Description, the text that stands for it where it cannot be seen. An
    SVG has in addition, as Source, on what the figure was measured, and the height of its heading in points,
    `data-heading`: a page that writes both above the picture shows the rest of it.
    """
    told = {"Title": figure.get_suptitle().replace("\n", " "), "Description": figure.get_label()}
    setting = next((text.get_text().replace("\n", " ") for text in figure.texts if text.get_gid() == "setting"), None)
    layout = figure.get_layout_engine()
    heading = 72 * figure.get_figheight() * (1 - layout.get()["rect"][3]) if layout else 0
    for path in map(Path, paths):
        with plt.rc_context(STYLE):
            if path.suffix == ".svg":
                drawn = io.StringIO()
                figure.savefig(drawn, format="svg", metadata={**told, "Source": setting, "Date": None})
                text = drawn.getvalue().replace("<svg ", f'<svg data-heading="{heading:.2f}" ', 1)
                write_text(path, text.replace("</style>", f"{_dark_rules()}</style>", 1))
            else:
                write_atomically(path, lambda file: figure.savefig(file, dpi=PIXELS, metadata=told))
    plt.close(figure)


def _dark_rules() -> str:
    """Return the style sheet of an SVG for dark screens. What names no fill is black and inherits the root's."""
    rules = (
        f'[style*="{kind}: {light}"]{{{kind}: {dark} !important}}'
        for light, dark in DARK.items() for kind in ("fill", "stroke")
    )  # fmt: skip
    return f"@media (prefers-color-scheme: dark){{svg{{fill: {DARK['#000000']}}}{''.join(rules)}}}"


def add_heading(figure: Figure, title: str, setting: str, alternative: str = "") -> None:
    """Write a finding above a finished figure and, in small type, on what it was measured; the figure grows for them.

    `alternative` says in words and numbers what the figure shows, for those who cannot see it.
    """
    if figure.get_layout_engine() is None:  # of a user's own figure
        figure.set_layout_engine("constrained")
    width = figure.get_figwidth()
    above, below = _wrapped(title, 9.6 * width), _wrapped(setting, 16 * width)
    heights = [(LINE * size * len(lines) + 3) / 72 for size, lines in ((TITLE, above), (SMALL, below))]
    height = figure.get_figheight() + sum(heights) + 0.05
    figure.set_figheight(height)
    look = {"x": 0.07 / width, "ha": "left", "va": "top", "linespacing": LINE}
    figure.suptitle("\n".join(above), y=1 - 0.04 / height, fontsize=TITLE, weight="bold", **look)
    under = {"s": "\n".join(below), "y": 1 - (0.04 + heights[0]) / height, "gid": "setting"}
    figure.text(**under, fontsize=SMALL, color=QUIET, **look)
    figure.get_layout_engine().set(rect=(0, 0, 1, 1 - (sum(heights) + 0.05) / height))
    figure.set_label(f"{title}. {alternative}".strip())


def _wrapped(text: str, letters: float) -> list[str]:
    """Return lines of a text; a number stays beside what it counts."""
    for phrase in ("n = ", "η = ", " seed", " networks", " %", " points", " steps", " images", "p < "):
        text = text.replace(phrase, phrase.replace(" ", "\xa0"))
    return [line.replace("\xa0", " ") for line in textwrap.wrap(text, int(letters))]


def add_legend(figure: Figure, place: str, **options) -> None:
    """Add one legend for all panels, each label once, outside of them at a place such as "lower center"."""
    handles = {}
    for axis in figure.axes:
        handles |= {label: handle for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles, loc=f"outside {place}", frameon=False, **options)


def say(axis, text: str) -> None:
    """Write a text into the middle of a panel that has nothing to show."""
    axis.annotate(text, (0.5, 0.5), xycoords="axes fraction", ha="center", va="center", color=QUIET)


def number(value: float, _=None) -> str:
    """Return a number for an axis: 10, 0.5, 20,000, 2e+06."""
    return f"{value:,g}" if abs(value) < 1e6 else f"{value:.0e}"


def signed(value: float, digits: int = 1) -> str:
    """Return a number with its sign, and a minus as long as a plus: +0.4, −12.0; what rounds to 0 has none: 0.0."""
    rounded = round(value, digits)
    return f"{rounded:+.{digits}f}".replace("-", "−") if rounded else f"{0:.{digits}f}"


def joined(names: list[str], of: int | None = None) -> str:
    """Return one or two names, or how many there are: `A`, `A and B`, `3 rows`, `3 of 5 rows`, `all 5 rows`."""
    if 0 < len(names) <= 2:
        return " and ".join(names)
    if len(names) == of:
        return f"all {of} rows"
    return f"{len(names)}{f' of {of}' if of else ''} rows" if names else "no row"


def begun(sentence: str) -> str:
    """Return a sentence with a capital letter if it begins with a word of ours; names of rows stay as they are."""
    return re.sub("^(all|no|with) ", lambda match: match[0].capitalize(), sentence)


def log_ticks(part, low: float, high: float) -> None:
    """Write plain numbers on a logarithmic axis (`axis.xaxis`), the more of them the less it spans."""
    tiers = ((3, range(1, 10)), (100, (1, 2, 5)), (1e4, (1, 3)), (np.inf, (1,)))
    part.set_major_locator(LogLocator(subs=next(tuple(subs) for factor, subs in tiers if high <= factor * low)))
    part.set_major_formatter(number)
    part.set_minor_formatter(NullFormatter())


def step_axis(axis, last: int) -> None:
    """Make the horizontal axis one of steps, logarithmic, but with 0."""
    axis.set_xscale("symlog", linthresh=1, linscale=0.4)
    powers = [0, *(10**power for power in range(12) if 10**power <= last)]
    axis.set_xticks(powers, [f"{power:,}" for power in powers])
    axis.set_xlim(-0.15, last * 1.15)
    axis.xaxis.minorticks_off()
    axis.set_xlabel("update steps")


def value_colours(values: list) -> dict:
    """Return a colour for each value: of a sequential map for numbers, of the palette for texts."""
    if any(isinstance(value, str) for value in values):
        colours = PALETTE[1:]  # without the baseline's
        return {value: colours[index % len(colours)] for index, value in enumerate(values)}
    # Without the ends of the map, which dark and light screens swallow.
    shades = np.linspace(0.3, 0.88, len(values))
    return dict(zip(values, map(colormaps[SEQUENTIAL], shades), strict=True))
