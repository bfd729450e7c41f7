"""Published and measured accuracy of each row of a table, with a dot for every measured seed."""

from whysgd.report.colours import PALETTE
from whysgd.report.style import add_heading, plt

NEEDS = ("table",)
CAPTION = (
    "Measured accuracy of each row (a dot for each seed, a diamond for their mean) beside the published mean ± "
    "standard deviation."
)
WIDTH, ROW_HEIGHT, MARGIN = 8.5, 0.42, 1.6  # inches
MEASURED = PALETTE[6]
APART = 0.13  # of published and measured, in rows


def comparison(table, frames, setting):
    """Draw a line for each row that has a run, the first one on top."""
    rows = [row for row in table["rows"] if row["run"] is not None]
    lines, runs = frames["table"].dropna(subset="row"), frames["runs"]
    places = range(len(rows))
    figure, axis = plt.subplots(figsize=(WIDTH, ROW_HEIGHT * len(rows) + MARGIN))
    known = lines.published_mean.notna().any()
    axis.errorbar(
        lines.published_mean.astype(float), [place - APART for place in places],
        xerr=lines.published_std.astype(float).fillna(0.0), fmt="o", mfc="none", color="black", capsize=2,
        label="published, mean ± std" if known else None,
    )  # fmt: skip
    for place, row in zip(places, rows, strict=True):
        seeds = runs[runs.run == row["run"]][row["metric"]].astype(float)
        label = "measured, each seed" if place == 0 else None
        axis.plot(seeds, [place + APART] * len(seeds), "o", color=MEASURED, alpha=0.4, ms=5, label=label)
    means = lines.measured_mean.astype(float)
    axis.plot(means, [place + APART for place in places], "D", color=MEASURED, ms=6, label="measured, mean")
    axis.set_yticks(places, [row["label"] + (f" ({row['column']})" if row["column"] else "") for row in rows])
    axis.invert_yaxis()
    axis.set_xlabel("accuracy [%]")
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    add_heading(figure, f"published: {table['setting'] or table['title']}", f"measured: {setting}")
    return figure
