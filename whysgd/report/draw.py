"""Figures of tables, drawn from files; one that is missing or damaged is a `UserError` that names it."""

import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from whysgd.errors import UserError
from whysgd.measures.catalog import LANDSCAPE_COLUMNS, LANDSCAPES
from whysgd.report.frame import read_frame, read_histories
from whysgd.report.record_frames import unpacked
from whysgd.report.style import STYLE, add_heading, begun, plt
from whysgd.report.tables import setting_of
from whysgd.results.records import LANDSCAPE_NUMBERS
from whysgd.study.figures import CONDITIONS, FIRST_SEED, GRID, NOISE, needs
from whysgd.study.registry import find


def draw_figure(name: str, table: Mapping, frames: Mapping[str, pd.DataFrame]) -> Figure:
    """Return a figure of a table, under the finding that its file's `message` makes of the numbers, if it has one.

    Args:
        name: of the figure, or a dotted path to one.
        table: as `whysgd.study.papers.tables_at` has it, with `colours`, of its runs.
        frames: as `read_frames` has them; of other runs than the table's, too.

    Raises:
        UserError: there is nothing to draw.
    """
    drawn = {row["run"] for row in table["rows"] if row["planned"]}
    if not drawn:
        raise UserError(f"{table['title']}: no run of the table is made at this scale, so there is nothing to draw")
    measured = [need for need in needs(name) if need in (*LANDSCAPES, *NOISE)]
    for need in measured:
        drawn &= set(frames[need].run)
        if need in NOISE and frames[need].empty:
            raise UserError(f"{table['title']}: the noise of no run was measured, so there is nothing to draw")
    # Rows are compared with where their gaps start.
    drawn |= {row["gap"]["from"] for row in table["rows"] if row["gap"]}
    frames = {need: frame[frame.run.isin(drawn)] for need, frame in frames.items()}
    shown = measured[0] if measured else "runs"
    known = frames[shown] if GRID not in needs(name) else frames["measures"].query("quantity == @table['metric']")
    seeds = _first_seeds(known) if shown in FIRST_SEED else _seeds_of(known)
    function = find("figure", name)
    # Matplotlib leaves labels that begin with _ out of legends.
    table = {**table, "rows": [{**row, "label": re.sub("^_", "\u200b_", row["label"])} for row in table["rows"]]}
    with plt.rc_context(STYLE):
        figure = function(table, frames)
        message = getattr(sys.modules[function.__module__], "message", None)
        title, numbers = message(table, frames) if message else (table["title"], "")
        add_heading(figure, begun(title), f"{setting_of(frames['runs'], device=False)}; {seeds}", numbers)
    return figure


def _first_seeds(frame: pd.DataFrame) -> str:
    """Return the first seed of each run of a frame, as text."""
    first = sorted(set(frame.groupby("run").seed.min()))
    return f"seed{'s' * (len(first) > 1)} {', '.join(map(str, first))}"


def _seeds_of(frame: pd.DataFrame) -> str:
    """Return how many seeds the runs of a frame have, as text."""
    counts = frame.groupby("run").seed.nunique() if len(frame) else pd.Series([0])
    text = " to ".join(str(count) for count in dict.fromkeys((counts.min(), counts.max())))
    return f"n = {text} seed{'' if text == '1' else 's'}"


def read_frames(name: str, inputs: Mapping) -> dict[str, pd.DataFrame]:
    """Return the frames that a figure needs: that of `runs`, and one for each of its needs.

    Args:
        name: of the figure.
        inputs: for each of them its file or, of landscapes and logs, the files of the runs: those that training and
            measuring left, or records. Beside logs that training left there are the `metrics` of their runs.
    """
    return {need: _read(need, inputs) for need in ("runs", *needs(name)) if need not in CONDITIONS}


def _read(need: str, inputs: Mapping) -> pd.DataFrame:
    files = inputs[need]
    if need not in (*LANDSCAPES, *NOISE):
        return read_frame(files)
    if any(Path(file).suffix == ".json" for file in files):
        return pd.concat([unpacked(Path(file), need) for file in files], ignore_index=True)
    return read_points(files) if need in LANDSCAPES else read_histories(inputs["metrics"], files)


def read_points(files: Iterable[str | Path]) -> pd.DataFrame:
    """Return the points of all parts of landscapes in one frame; the part of a diverged run has none."""
    empty, full = pd.DataFrame(columns=LANDSCAPE_COLUMNS), []
    for file in files:
        try:
            part = read_frame(file)[list(LANDSCAPE_COLUMNS)].astype(dict.fromkeys(LANDSCAPE_NUMBERS, float))
        except (OSError, ValueError, KeyError) as error:  # a file, a number or a column; pandas' own are ValueErrors
            raise UserError(f"{file}: not the points of a landscape ({error})") from None
        full += [part] if len(part) else []
    return pd.concat(full or [empty], ignore_index=True)
