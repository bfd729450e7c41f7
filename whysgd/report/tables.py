"""The papers' tables with the measured numbers beside the published ones."""

import math
from collections.abc import Iterable

import pandas as pd

from whysgd.report.baselines import difference_of, row_name, seeds_of_row
from whysgd.report.frame import FROM_RECORDS, KEYS
from whysgd.report.measures import COLUMNS as MEASURES
from whysgd.report.measures import rounded, spread_of, titled
from whysgd.report.statistics import recovered
from whysgd.report.table import Cell, Table
from whysgd.study.claims import ACCURACIES
from whysgd.study.registry import network

COLUMNS = [
    "row", "label", "published_mean", "published_std", "measured_mean", "measured_std", "n", "training",
    "least_steps", "most_steps", "difference", "published_beside", "measured_beside", "baseline", "measured_at",
    "metric", "note",
]  # fmt: skip
GAP_COLUMNS = ["published_gap", "measured_gap", "gap_resolved"]
NO_RUN, NOT_PLANNED, NOT_RUN, NOT_MEASURED = "no such run", "not at this scale", "not run", "not measured"
NO_RECORD, EDITED = "no record of it", "settings differ from the published row"
UNRECORDED = "…"
MISSING = {NOT_PLANNED: "“–” is not run at this scale", NO_RECORD: f"“{UNRECORDED}” has no record yet"}
LAST = "the last step"
GAPS = "Gap recovered, in percent of SB − LB: published → measured."
DOUBT = "?: SB − LB is not clearly above 0 on these seeds, so the percentage says nothing."
DATA = ("dataset", "train_images", "held_out_images", "test_images")
BESIDE = {"published_beside": "published − baseline", "measured_beside": "measured − baseline"}
SELECTED = {"validation": "the step selected on the held-out images", "test": "the step of highest test accuracy"}


def make_table(table: dict, paper: str, runs: pd.DataFrame, measures: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return one line for each laid-out row, that is each cell, of a published table.

    Args:
        table: as `whysgd.study.papers.tables_at` has it.
        paper: its paper.
        runs, measures: the tidy frames of runs and, if the table shows any of it, of what was measured of them.

    Returns:
        the columns `COLUMNS`, with `column` after `row` if the table has columns, and `GAP_COLUMNS` before `metric` if
        it has gaps. Accuracies are in percent, the standard deviation has n − 1, gaps are shares (see
        `whysgd.report.statistics.recovered`). `training` is the mean training accuracy beside a test accuracy at the
        last step. `difference` is measured − published, of rows with the settings, data and network of the paper;
        `published_beside` and `measured_beside` are differences of means to the row's baseline. A seed without a number
        does not count, and a diverged run counts with the accuracy it ended at, or its best until then.
    """
    mine = runs[runs.paper == paper]
    known = pd.DataFrame(columns=MEASURES) if measures is None else measures[measures.paper == paper]
    by_run, measured = (dict(list(frame.groupby("run"))) for frame in (mine, known))
    lines = []
    for row in table["rows"]:
        own = by_run.get(row["run"], mine[:0])
        values, note = _values(row, own, measured.get(row["run"], known[:0]))
        notes = [_note(row, own), note, _share_of_grid(table) if len(own) else ""]
        line = _line(row, own, values, comparable=table["as_published"] and not row["edited"])
        if row["metric"] in ACCURACIES and (one := difference_of(table, row, mine)):
            beside = (one.published, one.value, row_name(one.baseline))
            line |= zip(("published_beside", "measured_beside", "baseline"), beside, strict=True)
        lines.append({**line, **_gap(row, mine), "note": "; ".join(filter(None, notes))})
    columns = [*COLUMNS[:1], *(["column"] if table["columns"] else []), *COLUMNS[1:]]
    columns[-2:-2] = GAP_COLUMNS if any(row["gap"] for row in table["rows"]) else []
    return pd.DataFrame(lines, columns=columns)


def _share_of_grid(table: dict) -> str:
    """Return how much of its grid a table has, if not all."""
    if not table["grid"]:
        return ""
    cells = math.prod(len(values) for part in ("rows", "columns") for values in table["grid"][part].values())
    shown = sum(row.get("recorded") is not False for row in table["rows"])
    return f"{shown} of the grid's {cells} cells" if shown < cells else ""


def _values(row: dict, runs: pd.DataFrame, measures: pd.DataFrame) -> tuple[pd.Series, str]:
    """Return the row's metric over seeds, and what is to be said of it."""
    if row["metric"] in ACCURACIES:
        return runs[row["metric"]].astype(float), ""
    known = measures[measures.quantity == row["metric"]]
    values = known.value.astype(float)
    undefined = int(values.isna().sum())
    notes = [NOT_MEASURED] if known.empty and len(runs) else []
    notes += [f"no number for {undefined} of {len(values)}"] if undefined else []
    return values.dropna(), "; ".join([*notes, *_older(known, "measured")])


def _line(row: dict, runs: pd.DataFrame, values: pd.Series, comparable: bool) -> dict:
    published = row["mean"] if comparable and row["mean"] is not None else math.nan
    selected = row["metric"].startswith("best_")
    training = runs.train_accuracy.astype(float).mean() if row["metric"] == "test_accuracy" else math.nan
    return {
        "row": row["run"], "column": row["column"], "label": row["label"],
        "published_mean": row["mean"], "published_std": row["std"], "measured_mean": values.mean(),
        "measured_std": values.std(), "n": len(values), "training": training,
        "least_steps": runs.steps.min(), "most_steps": runs.steps.max(),
        "difference": values.mean() - published, "metric": row["metric"],
        "measured_at": None if runs.empty else SELECTED[runs.best_selected_on.iloc[0]] if selected else LAST,
    }  # fmt: skip


def _gap(row: dict, runs: pd.DataFrame) -> dict:
    if row["gap"] is None:
        return {}
    names = (row["run"], row["gap"]["from"], row["gap"]["to"])
    gap = recovered(*names, {name: seeds_of_row(runs, {**row, "run": name}) for name in names})
    return dict(zip(GAP_COLUMNS, (row["published_gap"], *(gap or [None] * 2)), strict=True))


def _note(row: dict, runs: pd.DataFrame) -> str:
    if row["run"] is None:
        return NO_RUN
    if runs.empty:
        return NOT_RUN if row["planned"] else NO_RECORD if row.get("recorded") is False else NOT_PLANNED
    parts = [EDITED] if row["edited"] and row["mean"] is not None else []
    if copies := runs.stored_copies.iloc[0]:
        parts.append(f"{copies} stored copies")
    if diverged := int((runs.status == "diverged").sum()):
        parts.append(f"{diverged} of {len(runs)} diverged")
    return "; ".join([*parts, *_older(runs, "trained")])


def _older(lines: pd.DataFrame, what: str) -> list[str]:
    """Return what is to be said of lines from records of code that may give other numbers than today's."""
    older = int(lines.older.sum())
    return [f"{older} of {len(lines)} {what} by older code"] if older else []


def setting_of(runs: pd.DataFrame, device: bool = True, measures: pd.DataFrame | None = None, scaled: str = "") -> str:
    """Return on what the numbers were measured: scale, data, networks and, if wanted, device; and if from records.

    `measures`: the frame of what was measured, if it is shown; `scaled`: what the scale's rules change.
    """
    if runs.empty:
        return "nothing measured"
    scale, devices = (", ".join(sorted(map(str, runs[column].unique()))) for column in ("scale", "device"))
    images: dict[str, list[str]] = {}
    for dataset, train, held_out, test in sorted(set(zip(*(runs[column] for column in DATA), strict=True))):
        held = f", {held_out:,} held-out" if held_out else ""
        images.setdefault(dataset, []).append(f"{train:,} training{held} and {test:,} test images")
    datasets = [f"{dataset} ({' or '.join(counts)})" for dataset, counts in images.items()]
    recorded = ", from records" if (runs.source == FROM_RECORDS).any() else ""
    old = _older(runs, "runs trained")
    old += [] if measures is None else _older(measures.groupby(KEYS).older.any().reset_index(), "runs measured")
    recorded += "".join(f" ({text})" for text in old)
    where = f", on {devices}" if device else ""
    rules = f"; {scaled}" if scaled else ""
    return f"scale {scale}{recorded}: {', '.join(datasets)}, {_networks(runs.model.unique())}{where}{rules}"


def _networks(models: Iterable[str]) -> str:
    """Return names of networks; of a family of many sizes the first and the last."""
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


def presented(lines: pd.DataFrame, paper: str, title: str, origin: str = "", finding: str = "") -> list[Table]:
    """Return the table for readers and, if it has both columns and gaps, the table of its gaps.

    A table with columns has a line for each row and, for each column, `published → measured`.

    Args:
        lines: the frame of `make_table`.
        paper: whose runs the measured numbers are of.
        title: of the table.
        origin: where both sides come from.
        finding: what the source says of it.
    """
    rows = list(lines.itertuples())
    lines = lines.assign(
        published=[_spread(row.published_mean, row.published_std, row.metric) for row in rows],
        measured=[_spread(row.measured_mean, row.measured_std, row.metric) for row in rows],
        gap=list(map(_gap_text, rows)),
    )
    above = tuple(filter(None, (headline(lines), origin)))
    legend = GAPS if lines.gap.any() else ""
    doubt = DOUBT if lines.gap.str.endswith("?").any() else ""
    if "column" not in lines:
        bases = " or ".join(lines.baseline.dropna().unique()) if lines.difference.isna().all() else ""
        baseline = f"The baseline is {bases}." if bases else ""
        means = dict(zip(lines.label, lines.measured_mean, strict=True))
        if bases and ((lines.measured_mean - lines.baseline.map(means) - lines.measured_beside).abs() > 1e-6).any():
            baseline += " Differences are over the seeds that a row shares with it."
        notes = (legend, doubt, finding, baseline)
        return [Table(title, *_long(lines, paper), above=above, notes=notes)]
    both = lines.published_mean.notna().any() or lines.metric.isin(ACCURACIES).any()
    # A row without any number tells nothing, and a grid can have many.
    nothing = lines.note.isin((NO_RECORD, NO_RUN)) & lines.published_mean.isna()
    empty = (lines.n > 0).any() & nothing.groupby(lines.label).transform("all")
    left_out = f"Rows without any record are left out: {lines[empty].label.nunique()}." if empty.any() else ""
    lines = lines[~empty]
    measured = lines.measured.mask(lines.note == NO_RECORD, UNRECORDED)
    cells = lines.published + " → " + measured if both else measured
    notes = (remarks(lines), left_out, "" if legend else finding)
    shown = [Table(title, *_wide(lines, cells, paper), above=above, notes=notes)]
    if legend:
        # Columns in which no row has a gap, those that it lies between, are left out.
        having = lines[lines.column.isin(lines.column[lines.gap != ""])]
        shown.append(
            Table(f"Gaps: {title}", *_wide(having, having.gap, paper), above=(legend,), notes=(doubt, finding))
        )
    return shown


def _long(lines: pd.DataFrame, paper: str) -> tuple[list, list, list]:
    """Return heads, whether each is of numbers, and rows of a table without columns."""
    has_gaps = lines.gap.any()
    # Accuracies on other data, or of other networks, are never subtracted from published ones.
    told = ["difference"] if lines.difference.notna().any() else ["published_beside", "measured_beside"]
    told = [name for name in told if lines[name].notna().any()]
    fitted = ["training"] if lines.training.notna().any() else []
    heads = ["row", "label", "published", "measured", "n", "steps", *(["training accuracy"] if fitted else [])]
    heads += [*(BESIDE.get(name, name) for name in told), *(["gap recovered [%]"] if has_gaps else [])]
    noted = lines.note.fillna("").any()
    heads += ["note"] if noted else []
    rows = []
    for line in lines.itertuples():
        texts = [str(line.n), _steps(line.least_steps, line.most_steps)]
        texts += [_spread(getattr(line, name), None, line.metric) for name in fitted]
        form = "+.2f" if line.metric in ACCURACIES else "+.3g"
        texts += ["–" if pd.isna(one) else f"{one:{form}}" for one in (getattr(line, name) for name in told)]
        texts += [line.gap] if has_gaps else []
        texts += ["" if pd.isna(line.note) else line.note] if noted else []
        measured = _cell(line.measured, line, paper)
        rows.append([Cell(line.row), Cell(line.label), Cell(line.published), measured, *map(Cell, texts)])
    return heads, [head not in ("row", "label", "note") for head in heads], rows


def _wide(lines: pd.DataFrame, cells: Iterable[str], paper: str) -> tuple[list, list, list]:
    """Return heads, whether each is of numbers, and rows of a table with columns."""
    columns = lines.column.unique().tolist()
    found = {
        (line.label, line.column): _cell("n/a" if line.note == NO_RUN else cell, line, paper)
        for line, cell in zip(lines.itertuples(), cells, strict=True)
    }
    rows = [[Cell(label), *(found[label, column] for column in columns)] for label in lines.label.unique()]
    return ["label", *columns], [False, *[True] * len(columns)], rows


def _cell(text: str, line, paper: str) -> Cell:
    """Return the cell of a line of `make_table`."""
    return Cell(text, f"{paper}/{line.row}", line.metric) if line.n else Cell(text)


def _gap_text(line) -> str:
    """Return the gap of a line in percent, `published → measured`; empty if it has none."""
    shares = [getattr(line, name, None) for name in ("published_gap", "measured_gap")]
    if all(map(pd.isna, shares)):
        return ""
    # Adding 0 makes -0 a 0.
    texts = ("–" if pd.isna(share) else f"{round(100 * share) + 0}" for share in shares)
    return " → ".join(texts) + (" ?" if pd.notna(shares[1]) and not line.gap_resolved else "")


def _spread(mean, std, metric: str) -> str:
    if pd.isna(mean):
        return "–"
    if metric not in ACCURACIES:
        return rounded(mean) if pd.isna(std) else spread_of(mean, std)
    return f"{mean:.2f}" if pd.isna(std) else f"{mean:.2f} ± {std:.2f}"


def headline(lines: pd.DataFrame) -> str:
    """Return what the numbers of a table are, in one sentence."""
    arrow = ", published → measured" if "column" in lines else ""
    if lines.metric.isin(ACCURACIES).all():
        steps = " or ".join(lines.measured_at.dropna().unique())
        steps = f", at {steps}{', as the row says' if ' or ' in steps else ''}" if steps else ""
        return f"Test accuracy in percent, mean ± standard deviation over seeds{arrow}{steps}."
    names = " or ".join(map(titled, lines.metric.unique()))
    which = " (which, the row says)" if lines.metric.nunique() > 1 else ""
    arrow = arrow if lines.published_mean.notna().any() else ""
    what = f"{names[0].upper()}{names[1:]} of the trained network{which}"
    return f"{what}, mean ± standard deviation over seeds{arrow}."


def remarks(table: pd.DataFrame) -> str:
    """Return what the notes of a table with columns say, in one line.

    What is true of every measured cell comes first; what is not names its cells.
    """
    cells: dict[str, list[str]] = {}
    measured = table[table.n > 0]
    for line in measured.fillna({"note": ""}).itertuples():
        for note in (f"{line.n} seed{'s' if line.n > 1 else ''}", *line.note.split("; ")):
            if note:
                cells.setdefault(note, []).append(f"{line.label}: {line.column}")
    common = [note for note, names in cells.items() if len(names) == len(measured)]
    common += [f"{_steps(measured.least_steps.min(), measured.most_steps.max())} steps"] if len(measured) else []
    others = [f"{note} ({', '.join(names)})" for note, names in cells.items() if note not in common]
    others += [text for note, text in MISSING.items() if (table.note == note).any()]
    parts = [*common, *others]
    return f"Notes: {'; '.join(parts)}." if parts else ""


def _steps(least, most) -> str:
    if pd.isna(least):
        return "–"
    return f"{least:,.0f}" if least == most else f"{least:,.0f} to {most:,.0f}"
