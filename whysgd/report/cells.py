"""Tables of the page: cells with their text and, if it is a measured number, the run that it is of."""

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import pandas as pd

from whysgd.measures.catalog import QUANTITIES
from whysgd.report import tables
from whysgd.report.measures import grouped, titled
from whysgd.study.checks import ACCURACIES, OfRuns, parse_check

# Of a table without columns, what comes from the run's own records; these and the other numbers stand on the right.
MEASURED = {"measured", "median"}
NUMBERS = MEASURED | {"published", "n", "difference", "gap recovered [%]"}


class Cell(NamedTuple):
    """What a cell shows; `run` is paper/run, `quantity` what of it, and both are empty unless it is measured."""

    text: str
    run: str = ""
    quantity: str = ""


class Table(NamedTuple):
    """For each column its head and whether it holds numbers; groups are (name, columns below it), if it has any."""

    heads: list[str]
    numbers: list[bool]
    rows: list[list[Cell]]
    groups: Sequence[tuple[str, int]] = ()


def published_table(lines: pd.DataFrame, paper: str) -> Table:
    """The frame of `whysgd.report.tables.make_table` as readers see it."""
    shown = tables.formatted(lines)
    if "column" in lines:
        return _wide(shown, lines, paper)
    rows = [
        [_cell(text, line, paper, name in MEASURED) for name, text in zip(shown.columns, texts, strict=True)]
        for texts, line in zip(shown.itertuples(index=False), lines.itertuples(), strict=True)
    ]
    return Table(list(shown.columns), [name in NUMBERS for name in shown.columns], rows)


def gaps_table(lines: pd.DataFrame, paper: str) -> Table | None:
    """Its gaps, if it has columns and gaps."""
    gaps = tables.formatted_gaps(lines)
    return None if gaps is None else _wide(gaps, lines, paper)


def _wide(shown: pd.DataFrame, lines: pd.DataFrame, paper: str) -> Table:
    places = {(line.label, line.column): line for line in lines.itertuples()}
    heads = list(shown.columns)
    rows = [
        [Cell(label), *(_cell(text, places[label, head], paper) for head, text in zip(heads[1:], texts, strict=True))]
        for label, *texts in shown.itertuples(index=False)
    ]
    return Table(heads, [False, *[True] * (len(heads) - 1)], rows)


def _cell(text, line, paper: str, measured: bool = True) -> Cell:
    """The cell of a line of `make_table`; without a metric of its own, that is an accuracy."""
    if not measured or not line.n:
        return Cell(str(text))
    last, selected = ACCURACIES
    quantity = getattr(line, "metric", last if line.measured_at == tables.LAST else selected)
    return Cell(str(text), f"{paper}/{line.row}", quantity)


def measures_table(table: pd.DataFrame) -> Table:
    """The frame of `whysgd.report.measures.readable`; its first column names the run."""
    names = {titled(name): name for name in QUANTITIES}
    # The first column stands by itself: it stays when the others are scrolled.
    names_above = [name for name, _ in grouped(table).columns]
    groups = [("", 1), *((name, len(list(some))) for name, some in groupby(names_above[1:]))]
    heads = list(table.columns)
    rows = [
        [Cell(run, run), *(_of_run(text, run, names.get(head)) for head, text in zip(heads[1:], texts, strict=True))]
        for run, *texts in table.itertuples(index=False)
    ]
    return Table(heads, [head in names or head in ("seeds", "diverged") for head in heads], rows, groups)


def _of_run(text: str, run: str, quantity: str | None) -> Cell:
    return Cell(text, run, quantity) if quantity and text != "–" else Cell(text)


def choices(table: Table, head: str) -> list[str]:
    """What a column has, if that differs between rows; of the names of runs, their papers."""
    if head not in table.heads:
        return []
    place = table.heads.index(head)
    found = sorted({row[place].text.split("/")[0] if head == "run" else row[place].text for row in table.rows})
    return found if len(found) > 1 else []


def runs_of_claim(check: str, paper: str) -> list[str]:
    """The runs, as paper/run, that a check compares; none of one about whole tables."""
    named = (run for part in parse_check(check) if isinstance(part, OfRuns) for run in part.runs)
    return [f"{paper}/{run}" for run in dict.fromkeys(named)]
