"""Training loss, gradient norm and test accuracy over epochs, a colour for each row of a table."""

import seaborn as sns

from whysgd.report.colours import PALETTE
from whysgd.report.style import add_heading, log_ticks, plt

NEEDS = ("histories",)
CAPTION = (
    "Loss, gradient norm and test accuracy of every row over epochs: mean over seeds, and a band from the lowest to "
    "the highest seed."
)
PANEL = (4.0, 4.0)  # inches
PANELS = (
    ("step_loss", "loss of the step (training mode)", "log", None),
    ("gradient_norm", "gradient norm before clipping", "log", None),
    ("test_accuracy", "test accuracy [%]", "linear", None),
)


def curves(table, frames, setting):
    """Draw three panels, or in a table with columns the test accuracy of each column."""
    histories, drawn = frames["histories"], PANELS
    # Of a run in two rows, at two metrics, the first.
    rows = {row["run"]: row for row in reversed(table["rows"]) if row["planned"]}
    rows = [row for row in table["rows"] if rows.get(row["run"]) is row]
    if table["columns"]:
        columns = dict.fromkeys(row["column"] for row in rows)
        drawn = [("test_accuracy", f"test accuracy [%], {column}", "linear", column) for column in columns]
    labels = dict.fromkeys(row["label"] for row in rows)
    colours = {label: PALETTE[index % len(PALETTE)] for index, label in enumerate(labels)}
    figure, axes = plt.subplots(1, len(drawn), figsize=(PANEL[0] * len(drawn), PANEL[1]), squeeze=False)
    for axis, (quantity, name, scale, column) in zip(axes[0], drawn, strict=True):
        runs = {row["run"]: row["label"] for row in rows if column in (None, row["column"])}
        shown = histories[histories.run.isin(runs)].dropna(subset=[quantity])
        sns.lineplot(
            shown.assign(row=shown.run.map(runs)), x="epoch", y=quantity, hue="row", hue_order=list(colours),
            palette=colours, errorbar=("pi", 100), ax=axis, legend=axis is axes[0][-1],
        )  # fmt: skip
        axis.set(xscale="log", yscale=scale, xlabel="epochs (passes over the training set)", ylabel=name)
        log_ticks(axis.xaxis, *axis.get_xlim())
        if scale == "log":
            log_ticks(axis.yaxis, *axis.get_ylim())
    sns.move_legend(axes[0][-1], "center left", bbox_to_anchor=(1, 0.5), title=None, frameon=False)
    add_heading(figure, table["title"], setting)
    return figure
