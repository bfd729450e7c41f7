"""The figures: training curves, measured against published, and a sheet of stored images."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

from whysgd.data.canonical import Dataset
from whysgd.data.store import Store
from whysgd.files import write_atomically
from whysgd.report.colours import PALETTE

STYLE = {
    "svg.hashsalt": "whysgd", "svg.fonttype": "none", "font.size": 9, "axes.titlesize": 10,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.3,
    "figure.constrained_layout.use": True,
}  # fmt: skip


def save_figure(figure, paths: list[str | Path]) -> None:
    """Write a figure in each of the formats its paths end in; the same figure gives the same SVG."""
    for path in map(Path, paths):
        metadata = {"Date": None} if path.suffix == ".svg" else None
        with plt.rc_context(STYLE):
            write_atomically(path, lambda file, metadata=metadata: figure.savefig(file, dpi=150, metadata=metadata))
    plt.close(figure)


def plot_curves(table: dict, histories: pd.DataFrame, setting: str):
    """Training loss, gradient norm and test accuracy over epochs, one colour for each row of a table.

    Lines are means over seeds, bands reach from the lowest to the highest seed. A table with columns has one
    panel for each, with the test accuracy.

    Args:
        table: its definition, as `whysgd.study.papers.load_paper` has it.
        histories: the frame of `read_histories`, of the table's runs.
        setting: on what was measured, for the title.
    """
    panels = (
        ("step_loss", "loss of the step (training mode)", "log", None),
        ("gradient_norm", "gradient norm before clipping", "log", None),
        ("test_accuracy", "test accuracy [%]", "linear", None),
    )
    rows = [row for row in table["rows"] if row["planned"]]
    if table["columns"]:
        columns = dict.fromkeys(row["column"] for row in rows)
        panels = [("test_accuracy", f"test accuracy [%], {column}", "linear", column) for column in columns]
    labels = dict.fromkeys(row["label"] for row in rows)
    colours = {label: PALETTE[index % len(PALETTE)] for index, label in enumerate(labels)}
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(panels), figsize=(4 * len(panels), 4), squeeze=False)
        axes = axes[0]
        for axis, (measure, name, scale, column) in zip(axes, panels, strict=True):
            # A run in two rows, at two metrics, has the course of both: it is the last one's.
            names = {row["run"]: row["label"] for row in rows if column in (None, row["column"])}
            shown = histories[histories.run.isin(names)].dropna(subset=[measure])
            sns.lineplot(
                shown.assign(row=shown.run.map(names)), x="epoch", y=measure, hue="row", hue_order=list(colours),
                palette=colours, errorbar=("pi", 100), ax=axis, legend=axis is axes[-1],
            )  # fmt: skip
            axis.set(xscale="log", yscale=scale, xlabel="epochs (passes over the training set)", ylabel=name)
            axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.xaxis.set_major_formatter(ScalarFormatter())
            axis.xaxis.set_minor_formatter(NullFormatter())
        sns.move_legend(axes[-1], "center left", bbox_to_anchor=(1, 0.5), title=None, frameon=False)
        figure.suptitle(f"{table['title']}\n{setting}", fontsize=10)
    return figure


def plot_comparison(table: dict, lines: pd.DataFrame, runs: pd.DataFrame, setting: str):
    """Published and measured accuracy of each row of a table, with a dot for every measured seed.

    Args:
        table: as `whysgd.study.papers.tables_at` has it.
        lines: the frame of `make_table`.
        runs: the tidy frame of its runs.
        setting: on what was measured, for the title.
    """
    exists = [row["run"] is not None for row in table["rows"]]
    rows, lines = [row for row, there in zip(table["rows"], exists, strict=True) if there], lines[exists]
    places = range(len(rows))
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(8.5, 0.42 * len(lines) + 1.6))
        known = lines.published_mean.notna().any()
        axis.errorbar(
            lines.published_mean.astype(float), [place - 0.13 for place in places],
            xerr=lines.published_std.astype(float).fillna(0.0), fmt="o", mfc="none", color="black", capsize=2,
            label="published, mean ± std" if known else None,
        )  # fmt: skip
        for place, row in zip(places, rows, strict=True):
            seeds = runs[runs.run == row["run"]][row["metric"]].astype(float)
            label = "measured, each seed" if place == 0 else None
            axis.plot(seeds, [place + 0.13] * len(seeds), "o", color="#D55E00", alpha=0.4, ms=5, label=label)
        means = lines.measured_mean.astype(float)
        axis.plot(means, [p + 0.13 for p in places], "D", color="#D55E00", ms=6, label="measured, mean")
        labels = [row["label"] + (f" ({row['column']})" if row["column"] else "") for row in rows]
        axis.set_yticks(list(places), labels)
        axis.invert_yaxis()
        axis.set_xlabel("accuracy [%]")
        axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
        figure.suptitle(f"published: {table['setting'] or table['title']}\nmeasured: {setting}", fontsize=9)
    return figure


def plot_sheet(dataset: Dataset, store: Store, rows: int = 10, columns: int = 10):
    """One image of each class, a row for each, with its stored versions beside it.

    Args:
        dataset: whose training images are on the left.
        store: of its augmented copies.
        rows, columns: classes and copies shown, at most.
    """
    labels = dataset.train.labels
    shown = [int(np.flatnonzero(labels == c)[0]) for c in range(len(store.classes)) if (labels == c).any()][:rows]
    copies = min(store.copies, columns)
    with plt.rc_context({**STYLE, "axes.grid": False}):
        figure, axes = plt.subplots(
            len(shown), copies + 1, figsize=(max(4.0, 0.8 * (copies + 1) + 1), 0.8 * len(shown) + 1), squeeze=False
        )  # fmt: skip
        for line, number in zip(axes, shown, strict=True):
            versions = store.take(number + store.images * np.arange(copies))
            for axis, image in zip(line, [dataset.train.images[number], *versions], strict=True):
                _show(axis, image)
            name = store.classes[labels[number]]
            line[0].set_ylabel(name, rotation=0, ha="right", va="center")
        titles = ["original", *("clean" if store.meta["clean_first"] and c == 0 else f"{c}" for c in range(copies))]
        for axis, title in zip(axes[0], titles, strict=True):
            axis.set_title(title, fontsize=9)
        crop, flip = store.meta["crop_padding"], "flip" if store.meta["flip"] else "no flip"
        kept = f"{copies} of {store.copies}" if copies < store.copies else f"{copies}"
        figure.suptitle(
            f"{store.meta['source']['label']}\n{kept} stored copies: crop padding {crop}, {flip}", fontsize=10
        )  # fmt: skip
    return figure


def _show(axis, image) -> None:
    """A picture (C, H, W) of one or three channels; of others the first."""
    axis.imshow(image.transpose(1, 2, 0) if len(image) == 3 else image[0], cmap="gray", vmin=0, vmax=255)
    axis.set(xticks=[], yticks=[])
    for spine in axis.spines.values():
        spine.set_visible(False)
