"""Figures of tables, drawn from files."""

import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from whysgd.errors import UserError
from whysgd.measures.catalog import LANDSCAPE_COLUMNS, LANDSCAPES
from whysgd.report.figures._panels import seeds_of
from whysgd.report.frame import read_histories
from whysgd.report.recorded import unpacked
from whysgd.report.style import STYLE, add_heading, begun, plt
from whysgd.report.tables import setting_of
from whysgd.study.figures import ACCURACY, FIRST_SEED, GRID, NOISE, needs
from whysgd.study.registry import find


def draw_figure(name: str, table: Mapping, frames: Mapping[str, pd.DataFrame]) -> Figure:
    """Return a figure of a table, under the finding that its file's `message` makes of the numbers, if it has one.

    Args:
        name: of the figure, or a dotted path to one.
        table: as `whysgd.study.papers.tables_at` has it, with `colours`, of its methods.
        frames: as `read_frames` has them; of other runs than the table's, too.

    Raises:
        UserError: there is nothing to draw.
    """
    drawn = {row["run"] for row in table["rows"] if row["planned"]}
    if not drawn:
        raise UserError(f"{table['title']}: no run of the table is made at this scale, so there is nothing to draw")
    for need in {*needs(name)} & {*LANDSCAPES, *NOISE}:
        drawn &= set(frames[need].run)
        if need in NOISE and frames[need].empty:
            raise UserError(f"{table['title']}: the noise of no run was measured, so there is nothing to draw")
    # Rows are compared with where their gaps start.
    drawn |= {row["gap"]["from"] for row in table["rows"] if row["gap"]}
    frames = {need: frame[frame.run.isin(drawn)] for need, frame in frames.items()}
    shown = next((need for need in needs(name) if need in (*LANDSCAPES, *NOISE)), "runs")
    known = frames[shown] if GRID not in needs(name) else frames["measures"].query("quantity == @table['metric']")
    seeds = "first seed" if shown in FIRST_SEED else seeds_of(known)
    setting = f"{setting_of(frames['runs'], device=False)}; {seeds}"
    function = find("figure", name)
    # Matplotlib leaves labels that begin with _ out of legends.
    table = {**table, "rows": [{**row, "label": re.sub("^_", "\u200b_", row["label"])} for row in table["rows"]]}
    with plt.rc_context(STYLE):
        figure = function(table, frames)
        message = getattr(sys.modules[function.__module__], "message", None)
        title, numbers = message(table, frames) if message else (table["title"], "")
        add_heading(figure, begun(title), setting, numbers)
    return figure


def read_frames(name: str, inputs: Mapping) -> dict[str, pd.DataFrame]:
    """Return the frames that a figure needs: that of `runs`, and one for each of its needs.

    Args:
        name: of the figure.
        inputs: for each of them its file or, of landscapes and logs, the files of the runs: those that training and
            measuring left, or records. Beside logs that training left there are the `metrics` of their runs.

    Raises:
        UserError: a file is missing or damaged; the message names it.
    """
    return {need: _read(need, inputs) for need in ("runs", *needs(name)) if need not in (ACCURACY, GRID)}


def _read(need: str, inputs: Mapping) -> pd.DataFrame:
    files = inputs[need]
    if need not in (*LANDSCAPES, *NOISE):
        return pd.read_csv(files)
    if any(Path(file).suffix == ".json" for file in files):
        return pd.concat([unpacked(Path(file), need) for file in files], ignore_index=True)
    return read_points(files) if need in LANDSCAPES else read_histories(inputs["metrics"], files)


def read_points(files: Iterable[str | Path]) -> pd.DataFrame:
    """Return the points of all parts of landscapes in one frame; the part of a diverged run has none.

    Raises:
        UserError: a file is missing or damaged; the message names it.
    """
    parts = []
    for file in files:
        try:
            part = pd.read_csv(file)
        except (OSError, ValueError) as error:  # Pandas has its own for damaged files, all of them ValueErrors.
            raise UserError(f"{file}: not readable ({error})") from None
        if missing := [column for column in LANDSCAPE_COLUMNS if column not in part]:
            raise UserError(f"{file}: not the points of a landscape: no column {missing[0]}")
        parts.append(part)
    full = [part for part in parts if len(part)]
    return pd.concat(full, ignore_index=True) if full else pd.DataFrame(columns=LANDSCAPE_COLUMNS)
