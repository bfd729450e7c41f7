"""The papers' tables with the measured numbers beside the published ones."""

import math
import re
from collections.abc import Iterable

import pandas as pd

from whysgd.report.frame import KEYS, RECORDS
from whysgd.report.intervals import recovered
from whysgd.report.measures import rounded, spread_of, titled
from whysgd.study.checks import ACCURACIES
from whysgd.study.registry import network

COLUMNS = [
    "row", "label", "published_mean", "published_std", "measured_mean", "measured_std", "measured_median", "n",
    "difference", "measured_at", "note",
]  # fmt: skip
GAP_COLUMNS = ["published_gap", "measured_gap", "gap_low", "gap_high", "gap_resolved"]
NO_RUN, NOT_PLANNED, NOT_RUN, NOT_MEASURED = "no such run", "not at this scale", "not run", "not measured"
NO_RECORD = "no record of it"
MISSING = {NOT_PLANNED: "– is not run at this scale", NO_RECORD: "– has no record of this number"}
# What a note says of steps, and how many such notes of a table are told one by one.
STEPS, FEW = re.compile(r"(scale .*: )([\d/]+) steps"), 5
LAST = "the last step"
GAPS = "Gap recovered, in percent of SB − LB: published → measured."
DOUBT = "?: SB − LB is not clearly above 0 on these seeds, so the percentage says nothing."
SELECTED = {"validation": "the step selected on the held-out images", "test": "the step of highest test accuracy"}


def make_table(table: dict, paper: str, runs: pd.DataFrame, measures: pd.DataFrame | None = None) -> pd.DataFrame:
    """One line for each laid-out row, that is each cell, of a published table.

    Args:
        table: as `whysgd.study.papers.tables_at` has it.
        paper: its paper.
        runs: the tidy frame of all runs of the paper.
        measures: the tidy frame of what was measured of them, if the table shows any of that.

    Returns:
        the columns `COLUMNS`; `column` after `row` in a table that has columns; `GAP_COLUMNS` before `note` in one that
        has gaps; `metric` before `note` in one that shows a measured quantity, of which seeds that have no such number
        do not count; the note says how many they are. Accuracies are in percent, the standard deviation over seeds is
        that with n − 1, the difference is measured − published. Gaps are shares, see
        `whysgd.report.intervals.recovered`. A diverged run counts with the accuracy it ended at, or its best until
        then, and the note says so. `measured_at` says at which step.
    """
    mine = runs[runs.paper == paper]
    by_run = dict(list(mine.groupby("run")))
    known = pd.DataFrame(columns=["paper", "run"]) if measures is None else measures
    measured = dict(list(known[known.paper == paper].groupby("run")))
    gaps = any(row["gap"] for row in table["rows"])
    lines = []
    for row in table["rows"]:
        own = by_run.get(row["run"], mine[:0])
        values, note = _values(row, own, measured.get(row["run"]))
        part = _cells_of(table)
        note = "; ".join(filter(None, [_note(row, own), note, part if len(own) else ""]))
        lines.append({**_line(row, own, values), **(_gap(row, mine) if gaps else {}), "note": note})
    columns = [*COLUMNS[:1], *(["column"] if table["columns"] else []), *COLUMNS[1:]]
    columns[-1:-1] = [*(GAP_COLUMNS if gaps else []), *(["metric"] if _shows_measures(table) else [])]
    return pd.DataFrame(lines, columns=columns)


def _shows_measures(table: dict) -> bool:
    return any(row["metric"] not in ACCURACIES for row in table["rows"])


def _cells_of(table: dict) -> str:
    """How much of its grid a table has, if not all."""
    if not table.get("grid"):
        return ""
    cells = math.prod(len(values) for part in ("rows", "columns") for values in table["grid"][part].values())
    return f"{len(table['rows'])} of the grid's {cells} cells" if len(table["rows"]) < cells else ""


def _values(row: dict, runs: pd.DataFrame, measures: pd.DataFrame | None) -> tuple[pd.Series, str]:
    """The row's metric over seeds, and what is to be said of it."""
    if row["metric"] in ACCURACIES:
        return runs[row["metric"]].astype(float), ""
    if measures is None or not len(known := measures[measures.quantity == row["metric"]]):
        return pd.Series(dtype=float), NOT_MEASURED if len(runs) else ""
    values = pd.Series(known.value, dtype=float)
    undefined = int(values.isna().sum())
    notes = [f"no number for {undefined} of {len(values)}"] if undefined else []
    return values.dropna(), "; ".join([*notes, *_older(known, "measured")])


def _line(row: dict, mine: pd.DataFrame, values: pd.Series) -> dict:
    metric, published = row["metric"], row["mean"]
    measured = values.mean() if len(values) else None
    known = published is not None and measured is not None
    return {
        "row": row["run"], "column": row["column"], "label": row["label"],
        "published_mean": published, "published_std": row["std"],
        "measured_mean": measured, "measured_std": values.std(ddof=1) if len(values) > 1 else None,
        "measured_median": values.median() if len(values) else None, "n": len(values),
        "difference": measured - published if known else None,
        "measured_at": _measured_at(metric, mine), "metric": metric,
    }  # fmt: skip


def _measured_at(metric: str, runs: pd.DataFrame) -> str | None:
    if runs.empty:
        return None
    return SELECTED[runs.best_selected_on.iloc[0]] if metric.startswith("best_") else LAST


def _gap(row: dict, runs: pd.DataFrame) -> dict:
    if row["gap"] is None:
        return dict.fromkeys(GAP_COLUMNS)
    needed = runs[runs.run.isin([row["run"], *row["gap"].values()])]
    values = {run: group[row["metric"]].astype(float).tolist() for run, group in needed.groupby("run")}
    gap = recovered(row["run"], row["gap"], values)
    numbers = (None, None, None, None) if gap is None else (gap.value, gap.low, gap.high, gap.resolved)
    return dict(zip(GAP_COLUMNS, (row["published_gap"], *numbers), strict=True))


def _note(row: dict, runs: pd.DataFrame) -> str:
    if row["run"] is None:
        return NO_RUN
    if runs.empty:
        return NOT_RUN if row["planned"] else NO_RECORD if row.get("recorded") is False else NOT_PLANNED
    parts = []
    if runs.scale.iloc[0] != "paper":
        steps = "/".join(map(str, sorted(runs.steps.unique())))
        parts.append(f"scale {runs.scale.iloc[0]}, not the paper's: {steps} steps")
    if copies := runs.stored_copies.iloc[0]:
        parts.append(f"{copies} stored copies")
    if diverged := int((runs.status == "diverged").sum()):
        parts.append(f"{diverged} of {len(runs)} diverged")
    return "; ".join([*parts, *_older(runs, "trained")])


def _older(lines: pd.DataFrame, what: str) -> list[str]:
    """What is to be said of lines from records of code that may give other numbers than today's."""
    older = int(lines.older.sum()) if "older" in lines else 0
    return [f"{older} of {len(lines)} {what} by older code"] if older else []


def setting_of(runs: pd.DataFrame, device: bool = True, measures: pd.DataFrame | None = None) -> str:
    """On what the numbers were measured: scale, whether they are from records, data, network and (if wanted) device.

    Of records of older code it says how many runs they are; `measures`: the frame of what was measured, if it is shown.
    """
    if runs.empty:
        return "nothing measured"

    def all_of(column):
        return ", ".join(sorted(map(str, runs[column].unique())))

    datasets = []
    for dataset, group in sorted(runs.groupby("dataset")):
        counts = group[["train_images", "held_out_images", "test_images"]].drop_duplicates()
        images = [_images(*map(int, line)) for line in counts.sort_values(list(counts.columns)).to_numpy()]
        datasets.append(f"{dataset} ({' or '.join(images)})")
    where = f", on {all_of('device')}" if device else ""
    recorded = ", from records" if "source" in runs and (runs.source == RECORDS).any() else ""
    old = _older(runs, "runs trained")
    if measures is not None:
        of_runs = measures.drop_duplicates(KEYS) if "older" not in measures else measures.groupby(KEYS).older.any()
        old += _older(of_runs.reset_index(), "runs measured")
    recorded += "".join(f" ({text})" for text in old)
    return f"scale {all_of('scale')}{recorded}: {', '.join(datasets)}, {_networks(runs.model.unique())}{where}"


def _networks(models: Iterable[str]) -> str:
    """Names of networks; of a family that comes in any size, and of which there are many, the first and the last."""
    families: dict[str, list] = {}
    for model in sorted(models):
        family, arguments = network(model) or (model, {})
        sizes = tuple(arguments.values()) if set(arguments) <= {"depth", "width"} else None
        families.setdefault(family if sizes else model, []).append((sizes, model))
    names = []
    for members in families.values():
        ordered = [model for _, model in sorted(members)]
        names += ordered if len(ordered) <= 3 else [f"{ordered[0]} to {ordered[-1]} ({len(ordered)} networks)"]
    return ", ".join(names)


def _images(train: int, held_out: int, test: int) -> str:
    return f"{train} training{f', {held_out} held-out' if held_out else ''} and {test} test images"


def formatted(table: pd.DataFrame) -> pd.DataFrame:
    """The table for readers.

    Returns:
        row, label, published, measured mean ± std, median, n, difference, the gap where there is one, and note; in a
        table with columns, a line for each row and, for each column, `published → measured`.
    """
    metrics = table.metric if "metric" in table else [ACCURACIES[0]] * len(table)
    published = [_spread(*line) for line in zip(table.published_mean, table.published_std, metrics, strict=True)]
    measured = [_spread(*line) for line in zip(table.measured_mean, table.measured_std, metrics, strict=True)]
    if "column" in table:
        both = table.published_mean.notna().any() or not _all_measures(table)
        return _wide(table, [f"{p} → {m}" if both else m for p, m in zip(published, measured, strict=True)])
    gaps = {"gap recovered [%]": _gap_cells(table)} if "published_gap" in table else {}
    return pd.DataFrame({
        "row": table.row,
        "label": table.label,
        "published": published,
        "measured": measured,
        "median": [_spread(m, None, metric) for m, metric in zip(table.measured_median, metrics, strict=True)],
        "n": table.n,
        "difference": [_signed(d, metric) for d, metric in zip(table.difference, metrics, strict=True)],
        **gaps,
        "note": table.note.fillna(""),
    })  # fmt: skip


def formatted_gaps(table: pd.DataFrame) -> pd.DataFrame | None:
    """The gaps of a table with columns, in percent, `published → measured`; None if it has none.

    Columns in which no row has one, those that the gap lies between, are left out.
    """
    if "column" not in table or "published_gap" not in table:
        return None
    shown = table.assign(cell=_gap_cells(table))
    ends = shown.groupby("column").cell.agg(lambda cells: set(cells) <= {"", "n/a"})
    shown = shown[~shown.column.isin(ends.index[ends])]
    return _wide(shown, shown.cell.tolist())


def _wide(table: pd.DataFrame, cells: list[str]) -> pd.DataFrame:
    cells = [("n/a" if note == NO_RUN else cell) for cell, note in zip(cells, table.note, strict=True)]
    wide = table.assign(cell=cells).pivot(index="label", columns="column", values="cell")
    wide = wide.loc[table.label.unique(), table.column.unique()]
    return wide.rename_axis(columns=None).reset_index()


def _gap_cells(table: pd.DataFrame) -> list[str]:
    """Empty for a row that has no gap."""
    cells = []
    for line in table[[*GAP_COLUMNS, "note"]].itertuples():
        published, measured = _percent(line.published_gap), _percent(line.measured_gap)
        doubt = " ?" if pd.notna(line.measured_gap) and not line.gap_resolved else ""
        has = pd.notna(line.published_gap) or pd.notna(line.measured_gap)
        cells.append("n/a" if line.note == NO_RUN else f"{published} → {measured}{doubt}" if has else "")
    return cells


def _percent(share) -> str:
    # No negative zero.
    return "–" if pd.isna(share) else f"{round(100 * share) + 0}"


def _signed(difference, metric: str) -> str:
    if pd.isna(difference):
        return "–"
    return f"{difference:+.2f}" if metric in ACCURACIES else f"{difference:+.3g}"


def _all_measures(table: pd.DataFrame) -> bool:
    return "metric" in table and not table.metric.isin(ACCURACIES).any()


def _spread(mean, std, metric: str) -> str:
    if pd.isna(mean):
        return "–"
    if metric not in ACCURACIES:
        return rounded(mean) if pd.isna(std) else spread_of(mean, std)
    return f"{mean:.2f}" if pd.isna(std) else f"{mean:.2f} ± {std:.2f}"


def headline(table: pd.DataFrame) -> str:
    """What the numbers of a table are, in one sentence."""
    steps = " or ".join(table.measured_at.dropna().unique())
    steps += ", as the row says" if " or " in steps else ""
    arrow = ", published → measured" if "column" in table else ""
    if "metric" in table:
        names = [titled(metric) for metric in table.metric.unique()]
        what = " or ".join([names[0][:1].upper() + names[0][1:], *names[1:]])
        arrow = arrow if table.published_mean.notna().any() else ""
        which = " (which, the row says)" if len(names) > 1 else ""
        return f"{what} of the trained network{which}, mean ± standard deviation over seeds{arrow}."
    return f"Accuracy in percent, mean ± standard deviation over seeds{arrow}{f', at {steps}' if steps else ''}."


def remarks(table: pd.DataFrame) -> str:
    """What the notes of a table with columns say, in one line: without columns, each row has its own.

    What is true of every measured cell comes first; what is not names its cells.
    """
    if "column" not in table:
        return ""
    cells: dict[str, list[str]] = {}
    measured = table[table.n > 0]
    measured = measured.assign(note=_fewer(measured.note.fillna("").tolist()))
    for line in measured.itertuples():
        for note in (f"{line.n} seed{'s' if line.n > 1 else ''}", *str(line.note).split("; ")):
            if note not in ("", "nan"):
                cells.setdefault(note, []).append(f"{line.label}: {line.column}")
    common = [note for note, names in cells.items() if len(names) == len(measured)]
    others = [f"{note} ({', '.join(names)})" for note, names in cells.items() if note not in common]
    others += [text for note, text in MISSING.items() if (table.note == note).any()]
    parts = [*common, *others]
    return f"Notes: {'; '.join(parts)}." if parts else ""


def _fewer(notes: list[str]) -> list[str]:
    """The notes, with one range in place of their steps, if these are many, or the seeds of a run differ in them."""
    found = [STEPS.search(note) for note in notes]
    told = {match[0] for match in found if match}
    if len(told) <= FEW and not any("/" in note for note in told):
        return notes
    steps = sorted(int(number) for match in found if match for number in match[2].split("/"))
    return [STEPS.sub(rf"\g<1>{steps[0]} to {steps[-1]} steps", note) for note in notes]


def gap_legend(table: pd.DataFrame) -> tuple[str, str]:
    """What the gaps of a table are, and what its question marks mean; empty where it has none."""
    cells = _gap_cells(table) if "published_gap" in table else []
    return GAPS if any(cells) else "", DOUBT if any(cell.endswith("?") for cell in cells) else ""


def to_markdown(table: pd.DataFrame, title: str, published: str, measured: str, finding: str = "") -> str:
    """Title, where both sides come from, and the table; then the gaps and the source's finding, if it has any."""
    shown = formatted(table)
    numbers = {"published", "measured", "median", "n", "difference", "gap recovered [%]"}
    wide = "column" in table
    align = ["right" if column in numbers or (wide and column != "label") else "left" for column in shown.columns]
    head = f"**{title}.** {headline(table)}\n\nPublished: {published}.\nMeasured: {measured}."
    parts = [head, shown.to_markdown(index=False, colalign=align, disable_numparse=True)]
    legend, doubt = gap_legend(table)
    parts += [remarks(table), legend]
    if (gaps := formatted_gaps(table)) is not None:
        align = ["left"] + ["right"] * (len(gaps.columns) - 1)
        parts.append(gaps.to_markdown(index=False, colalign=align, disable_numparse=True))
    return "\n\n".join(part for part in (*parts, doubt, finding) if part) + "\n"


def to_latex(table: pd.DataFrame, title: str, published: str, measured: str, finding: str = "") -> str:
    """The same as LaTeX table environments (needs the package booktabs)."""
    legend, doubt = gap_legend(table)
    gaps = formatted_gaps(table)
    own = " ".join(part for part in (legend, doubt, finding) if part)
    caption = f"{title}. {headline(table)} Published: {published}. Measured: {measured}. {remarks(table)}".strip()
    if gaps is not None:
        return f"{_latex(formatted(table), caption)}\n{_latex(gaps, f'{title}. {own}')}"
    shown = formatted(table)
    form = None if "column" in table else "ll" + "r" * (len(shown.columns) - 3) + "l"
    return _latex(shown, f"{caption} {own}".strip(), form)


def _latex(shown: pd.DataFrame, caption: str, form: str | None = None) -> str:
    """Without a form, the first column is text and the others are numbers."""
    shown = shown.map(lambda value: _escape(str(value)))
    shown.columns = [_escape(column) for column in shown.columns]
    form = form or "l" + "r" * (len(shown.columns) - 1)
    return shown.to_latex(index=False, caption=_escape(caption), column_format=form, escape=False)


def _escape(text: str) -> str:
    for plain, tex in (
        ("\\", r"\textbackslash "),
        ("±", r"$\pm$"),
        ("–", "--"),
        ("−", "$-$"),
        ("→", r"$\to$"),
        ("η", r"$\eta$"),
    ):
        text = text.replace(plain, tex)
    for sign in "&%#_":
        text = text.replace(sign, "\\" + sign)
    return text
