"""The papers' tables with the measured numbers beside the published ones."""

import pandas as pd

COLUMNS = [
    "row", "label", "published_mean", "published_std", "measured_mean", "measured_std",
    "measured_median", "n", "difference", "note",
]  # fmt: skip


def make_table(table: dict, paper: str, runs: pd.DataFrame) -> pd.DataFrame:
    """One line for each row of a published table.

    Args:
        table: its definition in papers/*.yaml.
        paper: its paper.
        runs: the tidy frame.

    Returns:
        the columns `COLUMNS`, and `column` after `row` in a table that has columns. Accuracies are in percent, the
        standard deviation over seeds is that with n − 1, the difference is measured − published. A diverged run
        counts with the accuracy it ended at, and the note says so.
    """
    lines = []
    for row in table["rows"]:
        mine = runs[(runs.paper == paper) & (runs.run == row["run"])]
        values = mine[table["metric"]].astype(float)
        measured = values.mean() if len(values) else None
        published = row["mean"]
        known = published is not None and measured is not None
        lines.append({
            "row": row["run"], "column": row["column"], "label": row["label"],
            "published_mean": published, "published_std": row["std"],
            "measured_mean": measured, "measured_std": values.std(ddof=1) if len(values) > 1 else None,
            "measured_median": values.median() if len(values) else None, "n": len(values),
            "difference": measured - published if known else None,
            "note": _note(mine),
        })  # fmt: skip
    columns = [*COLUMNS[:1], "column", *COLUMNS[1:]] if table["columns"] else COLUMNS
    return pd.DataFrame(lines, columns=columns)


def _note(runs: pd.DataFrame) -> str:
    if runs.empty:
        return "not run"
    parts = []
    if runs.scale.iloc[0] != "paper":
        steps = "/".join(map(str, sorted(runs.steps.unique())))
        parts.append(f"scale {runs.scale.iloc[0]}, not the paper's: {steps} steps")
    if copies := runs.stored_copies.iloc[0]:
        parts.append(f"{copies} stored copies")
    if diverged := int((runs.status == "diverged").sum()):
        parts.append(f"{diverged} of {len(runs)} diverged")
    return "; ".join(parts)


def setting_of(runs: pd.DataFrame, device: bool = True) -> str:
    """On what the numbers were measured: scale, data, network and (if wanted) device."""
    if runs.empty:
        return "nothing measured"

    def all_of(column):
        return ", ".join(sorted(map(str, runs[column].unique())))

    images = f"{all_of('train_images')} training and {all_of('test_images')} test images"
    where = f", on {all_of('device')}" if device else ""
    return f"scale {all_of('scale')}: {all_of('dataset')} ({images}), {all_of('model')}{where}"


def formatted(table: pd.DataFrame) -> pd.DataFrame:
    """The table for readers.

    Returns:
        row, label, published, measured mean ± std, median, n, difference and note; in a table with columns, a
        line for each row and, for each column, `published → measured`.
    """
    published = [_spread(m, s) for m, s in zip(table.published_mean, table.published_std, strict=True)]
    measured = [_spread(m, s) for m, s in zip(table.measured_mean, table.measured_std, strict=True)]
    if "column" in table:
        cells = table.assign(cell=[f"{p} → {m}" for p, m in zip(published, measured, strict=True)])
        wide = cells.pivot(index="label", columns="column", values="cell")
        wide = wide.loc[table.label.unique(), table.column.unique()]
        return wide.rename_axis(columns=None).reset_index()
    return pd.DataFrame({
        "row": table.row,
        "label": table.label,
        "published": published,
        "measured": measured,
        "median": [_spread(m, None) for m in table.measured_median],
        "n": table.n,
        "difference": [f"{d:+.2f}" if pd.notna(d) else "–" for d in table.difference],
        "note": table.note,
    })  # fmt: skip


def _spread(mean, std) -> str:
    if pd.isna(mean):
        return "–"
    return f"{mean:.2f}" if pd.isna(std) else f"{mean:.2f} ± {std:.2f}"


def to_markdown(table: pd.DataFrame, title: str, published: str, measured: str) -> str:
    """Title, where both sides come from, and the table."""
    shown = formatted(table)
    numbers = {"published", "measured", "median", "n", "difference"}
    align = ["right" if column in numbers or "column" in table else "left" for column in shown.columns]
    body = shown.to_markdown(index=False, colalign=align, disable_numparse=True)
    head = f"**{title}.** Accuracy in percent, mean ± standard deviation over seeds"
    head += ", published → measured." if "column" in table else "."
    return f"{head}\n\nPublished: {published}.\nMeasured: {measured}.\n\n{body}\n"


def to_latex(table: pd.DataFrame, title: str, published: str, measured: str) -> str:
    """The same as a LaTeX table environment (needs the package booktabs)."""
    shown = formatted(table).map(lambda value: _escape(str(value)))
    caption = _escape(f"{title}. Accuracy in percent. Published: {published}. Measured: {measured}.")
    shown.columns = [_escape(column) for column in shown.columns]
    form = "l" + "r" * (len(shown.columns) - 1) if "column" in table else "llrrrrrl"
    return shown.to_latex(index=False, caption=caption, column_format=form, escape=False)


def _escape(text: str) -> str:
    for plain, tex in (("\\", r"\textbackslash "), ("±", r"$\pm$"), ("–", "--"), ("−", "$-$"), ("→", r"$\to$")):
        text = text.replace(plain, tex)
    for sign in "&%#_":
        text = text.replace(sign, "\\" + sign)
    return text
