"""Grids of papers/*.yaml: tables that have one run for each cell, whose settings its axes' values decide."""

import itertools
import re
from collections.abc import Mapping

from whysgd.errors import UserError
from whysgd.study.paper import Runs
from whysgd.study.settings import Settings
from whysgd.study.validation import check_known, checked


class GridRuns(Settings):
    """What the settings of a grid come to."""

    runs: Runs


_PLACE = re.compile(r"\{([^{}]*)\}")


def grid_cells(paper: dict, name: str, file: str) -> list[list[dict]]:
    """Lay out a table's grid, as `whysgd.study.layout.lay_out` says; return the cells of each row.

    Its runs are added to the paper's, its columns become those of the table. The rows are all combinations of the
    values of the rows' axes, the last one changing fastest; there is one axis of columns. A cell's run is the grid's
    `run`, its settings are the paper's defaults, or those of the run that `like` names, then the grid's `settings`,
    then those of the cell, if `cells` has the run. `{axis}` stands for a value in all of these texts; where it is the
    whole text, the value keeps its type.
    """
    table, where = paper["tables"][name], f"{file}: tables.{name}.grid"
    grid = table["grid"]
    (across, columns), *more = grid["columns"].items()
    axes = [*grid["rows"], across]
    if more or len(set(axes)) < len(axes):
        raise UserError(f"{where}.columns: must be one axis, and none of those of the rows: {', '.join(grid['rows'])}")
    if missing := [axis for axis in axes if f"{{{axis}}}" not in grid["run"]]:
        raise UserError(f"{where}.run = {grid['run']!r}: must name each axis; missing: {{{missing[0]}}}")
    table["columns"] = {str(value): {"label": _named(across, value), "settings": {}} for value in columns}
    made: dict[str, dict] = {}
    rows = []
    for values in itertools.product(*grid["rows"].values()):
        row = dict(zip(grid["rows"], values, strict=True))
        names = [_named(axis, value) for axis, value in row.items()]
        cells = []
        for value in columns:
            place = {**row, across: value}
            run = str(_filled(grid["run"], place, f"{where}.run"))
            made[run] = {**_filled(grid["settings"], place, f"{where}.settings"), **grid["cells"].get(run, {})}
            cells.append({
                "run": run, "row": "-".join([name, *map(str, values)]), "label": ", ".join(names),
                "column": table["columns"][str(value)]["label"], "method": str(value), "modifications": "",
                "metric": table["metric"], "mean": None, "std": None, "gap": None, "axes": place,
            })  # fmt: skip
        rows.append(cells)
    for run in grid["cells"]:
        if run not in made:
            raise UserError(f"{where}.cells.{run}: no run of the grid; its runs are called {grid['run']}")
    _add_runs(paper, made, where)
    return rows


def thinned(table: dict, wanted: Mapping[str, list], where: str) -> dict:
    """Return a laid-out table whose grid has only these values of some axes; `where`: file and key, for messages."""
    grid = table["grid"]
    if grid is None:
        raise UserError(f"{where}: the table has no grid")
    axes = {**grid["rows"], **grid["columns"]}
    for axis, values in wanted.items():
        check_known(axis, axes, f"{where}.{axis}: no such axis")
        for value in values:
            if value not in axes[axis]:
                raise UserError(f"{where}.{axis}: no value {value!r}; allowed: {', '.join(map(str, axes[axis]))}")
    rows = [row for row in table["rows"] if all(row["axes"][axis] in values for axis, values in wanted.items())]
    kept = {row["method"] for row in rows}
    columns = {key: column for key, column in table["columns"].items() if key in kept}
    return {**table, "rows": rows, "columns": columns}


def _add_runs(paper: dict, made: Mapping[str, dict], where: str) -> None:
    """Add the grid's runs to the paper's, with all settings; they are checked as if they stood under `runs`."""
    base = {None: paper["defaults"], **paper["runs"]}
    for run, own in checked(GridRuns, {"runs": dict(made)}, lambda _: where).runs.items():
        like = own.pop("like", None)
        if like is not None:
            check_known(like, filter(None, base), f"{where}.settings.like = {like!r}: no such run")
        settings = {**base[like], **own}
        if paper["runs"].setdefault(run, settings) != settings:
            raise UserError(f"{where}.run: its run {run!r} is there already, with other settings")


def _filled(value, place: Mapping, where: str):
    """A text, or the texts of a mapping or list, with the axes' values in place of their names."""
    if isinstance(value, Mapping):
        return {key: _filled(item, place, where) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, place, where) for item in value]
    if not isinstance(value, str):
        return value
    for axis in _PLACE.findall(value):
        check_known(axis, place, f"{where}: no axis {{{axis}}} in {value!r}")
    whole = _PLACE.fullmatch(value)
    return place[whole[1]] if whole else _PLACE.sub(lambda match: str(place[match[1]]), value)


def _named(axis: str, value) -> str:
    """A value for readers: a number needs the name of its axis."""
    return value.replace("_", " ") if isinstance(value, str) else f"{axis} {value}"
