"""How norms of each layer's weights, and of their mean gradient, change along the steps: a column for each run."""

import textwrap

from whysgd.report.figures._panels import draw_course, drawn_rows, over_seeds
from whysgd.report.style import TEXT, WIDE, add_legend, log_ticks, plt, step_axis, value_colours

NEEDS = ("layers",)
CAPTION = (
    "Norms of the weights of each layer and of their mean gradient over the training images, as ratios to those at the "
    "start: the median over the seeds that have not ended, with a band between the quartiles. The axis begins with "
    "step 0."
)
HEIGHT = 4.6  # inches, of a run's two panels
QUANTITIES = {"weight_norm": "norm of the weights", "gradient_norm": "norm of their mean gradient"}


def _ratios(frames):
    """Return the lines of layers' weights, not of biases, with norms in units of those at their seed's first step."""
    weights = frames["layers"][frames["layers"].layer.str.endswith("weight")].sort_values("step", kind="stable")
    starts = weights.groupby(["run", "seed", "layer"])[list(QUANTITIES)].transform("first")
    return weights.assign(**(weights[list(QUANTITIES)] / starts.where(starts > 0)))


def layer_norms(table, frames):
    """Draw a column for each run and a colour for each layer."""
    lines = _ratios(frames)
    rows = drawn_rows(table, set(lines.run))
    colours = value_colours(list(range(lines.groupby("run").layer.nunique().max())))
    options = {"figsize": (WIDE, HEIGHT), "sharex": "col", "sharey": "row", "squeeze": False}
    figure, axes = plt.subplots(len(QUANTITIES), len(rows), **options)
    for column, (run, label) in zip(axes.T, rows.items(), strict=True):
        mine = lines[lines.run == run]
        for axis, quantity in zip(column, QUANTITIES, strict=True):
            for place, (_, layer) in enumerate(mine.groupby("layer", sort=False)):
                draw_course(axis, over_seeds(layer, "step", quantity), colours[place], f"{place + 1}", lw=1.3)
            axis.set_yscale("log")
            step_axis(axis, mine.step.max())
        column[0].set_xlabel("")
        column[0].set_title(textwrap.fill(label, 100 // len(rows)), loc="left")
    for axis, name in zip(axes[:, 0], QUANTITIES.values(), strict=True):
        log_ticks(axis.yaxis, *axis.get_ylim())
        axis.set_ylabel(f"{name}\n/ that at the start", fontsize=TEXT)
    add_legend(figure, "right center", title="layer")
    return figure


def message(table, frames):
    """Say between which ratios the norms of all layers end."""
    lines = _ratios(frames)
    ends = lines[lines.step == lines.groupby(["run", "seed"]).step.transform("max")]
    ends = ends.groupby(["run", "layer"], sort=False)[list(QUANTITIES)].median()
    weights, gradients = (" to ".join(dict.fromkeys(f"{end:.2g}" for end in (ends[name].min(), ends[name].max())))
                          for name in QUANTITIES)  # fmt: skip
    title = f"Weights end at {weights} times their first norm, gradients at {gradients} times"
    numbers = (f"{label}: weights {', '.join(f'{value:.2g}' for value in ends.weight_norm[run])}, gradients "
               f"{', '.join(f'{value:.2g}' for value in ends.gradient_norm[run])}"
               for run, label in drawn_rows(table, set(lines.run)).items())  # fmt: skip
    return title, f"By layer, {'; '.join(numbers)}"
