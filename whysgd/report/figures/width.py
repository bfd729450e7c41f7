"""A grid's quantity against the axis of its columns: a line for each value of the rows' last axis."""

from whysgd.report.figures._grid import axis_values, extremes, grid_panels, mark_level, named
from whysgd.report.figures._panels import panels
from whysgd.report.measures import titled
from whysgd.report.statistics import SIGNIFICANT, trends
from whysgd.report.style import WIDE, add_legend, number, signed, value_colours

NEEDS = ("measures", "grid")
CAPTION = (
    "The measured quantity of every network of the grid against the axis of its columns: a line is the mean over "
    "seeds, a dot is one seed. Independent normal numbers of one scale would lie on the dashed line; normal noise of "
    "parameters that differ in scale lies below it, too."
)
HEIGHT = 3.6  # inches


def width(table, frames):
    """Draw means over seeds as lines and seeds as dots, in a panel for each combination of the rows' other axes."""
    frame, drawn, inner, across = grid_panels(table, frames["measures"])
    colours = value_colours(axis_values(table, inner))
    figure, axes = panels(len(drawn), len(drawn), HEIGHT, WIDE, sharey=True, sharex=True)
    for axis, (title, part) in zip(axes, drawn, strict=True):
        for value in (value for value in colours if (frame[inner] == value).any()):
            lines = part[part[inner] == value]
            means = lines.groupby(across).value.mean()
            axis.plot(means.index, means, "-", color=colours[value], lw=1.4, label=named(value), zorder=3)
            axis.plot(lines[across], lines.value, "o", color=colours[value], ms=3, alpha=0.55, mew=0, zorder=2)
        axis.set_title(title, loc="left")
        axis.set_xlabel(across)
        mark_level(axis, table["metric"])
        _plain_numbers(axis, sorted(frame[across].unique()))
    axes[0].set_ylabel(titled(table["metric"]))
    add_legend(figure, "right center", title=inner)
    return figure


def _plain_numbers(axis, values: list) -> None:
    """Make the values the ticks, on a logarithmic axis if they span more than a factor of five."""
    if any(isinstance(value, str) for value in values):
        return
    if min(values) > 0 and max(values) > 5 * min(values):
        axis.set_xscale("log", base=2)
    axis.set_xticks(values, map(number, values))
    axis.xaxis.minorticks_off()


def message(table, frames):
    """Say in how many lines of the figure the quantity rises and falls along the columns, and Spearman's ρ of each."""
    frame, *_, across = grid_panels(table, frames["measures"])
    if isinstance(frame[across].iloc[0], str):
        return extremes(table, frame)
    lines = {", ".join(map(named, key)): part for key, part in frame.groupby([*table["grid"]["rows"]], sort=False)}
    judged = trends([(part[across].tolist(), part.value.tolist()) for part in lines.values()])
    found = dict(zip(lines, judged, strict=True))
    up, down = (sum(one.clear and one.rho * sign > 0 for one in found.values()) for sign in (1, -1))
    if up and down:
        said = f"rises with {across} in {up} and falls in {down} of {len(found)} lines"
    elif up or down:
        share = "all" if up + down == len(found) else f"{up + down} of"
        said = f"{'rises' if up else 'falls'} with {across} in {share} {len(found)} lines"
    else:
        said = f"shows no clear trend with {across} in any of {len(found)} lines"
    numbers = (f"{name} {signed(one.rho, 2)}" for name, one in found.items())
    title = f"{titled(table['metric']).capitalize()} {said} (Spearman's ρ, Holm p < {SIGNIFICANT:g})"
    return title, f"ρ: {'; '.join(numbers)}"
