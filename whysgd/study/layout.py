"""How the tables of papers/*.yaml are laid out: one row for each cell, with its run, settings, metric and gap."""

from collections.abc import Mapping

from whysgd.errors import UserError, listed
from whysgd.study.claims import ACCURACIES, parse_claims
from whysgd.study.figures import ACCURACY, GRID, NOISE, needs
from whysgd.study.grids import grid_cells
from whysgd.study.names import is_name
from whysgd.study.validation import check_known

PER_COLUMN = ("lr", "strength", "mean", "std")


def lay_out(paper: dict, file: str) -> None:
    """Lay out every table of a validated paper, in place.

    The paper's `runs`, which have all their settings, gain those of the cells; `gaps` is the {from, to} of each run
    that has one or is an end of one; claims become objects. A table of rows × columns gets one row for each cell, whose
    run is `row.column` (the row's own, for a column that changes nothing), None where the row's `lr` is null: there is
    no such run. A run that several tables name is one run. Each laid-out row has

        run, row: its run, and the entry of `runs` that the row names;
        label, column: of the row and of its column, None in a table without columns;
        method: the column's key or, without columns, the run; figures give each method a colour;
        metric, mean, std: its own metric or the table's, and the published numbers;
        gap: the runs it lies between, {from, to}, None if it is one of them or there is no gap;
        edited: whether its settings are no longer those of the published row, see `whysgd.study.published`;
        published_gap: (mean − mean of from) / (mean of to − mean of from) of the same metric, None if not published;
        axes: in a table with a grid (see `whysgd.study.grids`), the values of its axes.

    Raises:
        UserError: a row, column, gap, reference or claim that cannot be; the line names file and key.
    """
    grids = {name: grid_cells(paper, name, file) for name, table in paper["tables"].items() if table["grid"]}
    places = {run: f"runs.{run}" for run in paper["runs"]}
    for name, table in paper["tables"].items():
        where = f"{file}: tables.{name}"
        for key, column in (table["gap"] or {}).items():
            if not table["columns"]:
                allowed = "only a table with columns can have it; a row can have its own"
                raise UserError(f"{where}.gap = {table['gap']!r}: {allowed}")
            check_known(column, table["columns"], f"{where}.gap.{key} = {column!r}: no such column")
        if (table["grid"] is None) == (table["rows"] is None):
            raise UserError(f"{where}: rows or a grid must be given, one of them")
        rows = grids.get(name, [])
        for index, row in enumerate(table["rows"] or []):
            place = f"{where}.rows[{index}]"
            check_known(row["run"], paper["runs"], f"{place}.run = {row['run']!r}: no such run")
            row = {**row, "row": row["run"], "metric": row["metric"] or table["metric"]}
            rows.append(_cells(paper, table, row, places, place) if table["columns"] else [_single(row, place)])
        table["rows"] = [cell for cells in rows for cell in cells]
        _check_rows(rows, where)
        _check_planes(table, where)
        _check_figures(table, paper["runs"], where)
    _check_references(paper, places, file)
    paper["gaps"] = _gaps(paper, file)
    for table in paper["tables"].values():
        for row in table["rows"]:
            row["published_gap"] = _published_gap(row, table, paper["tables"])
    for index, left_out in enumerate(paper["out_of_scope"]):
        # A published table of which nothing is reproduced has its title here, which is no name.
        if is_name(left_out["table"]):
            key = f"{file}: out_of_scope[{index}].table = {left_out['table']!r}"
            check_known(left_out["table"], paper["tables"], f"{key}: no such table")
    paper["claims"] = parse_claims(paper, file)


def _single(row: dict, where: str) -> dict:
    """The row of a table without columns."""
    for key in PER_COLUMN:
        if isinstance(row[key], list):
            raise UserError(f"{where}.{key} = {row[key]!r}: only in a table with columns can it be a list")
    return {**_without(row, "lr", "strength"), "column": None, "method": row["run"]}


def _cells(paper: dict, table: dict, row: dict, places: dict, where: str) -> list[dict]:
    """The cells of one row of a table with columns; adds their runs to the paper's."""
    columns, runs = table["columns"], paper["runs"]
    given = {key: [None] * len(columns) if row[key] is None else row[key] for key in PER_COLUMN}
    for key, values in given.items():
        if not isinstance(values, list) or len(values) != len(columns):
            wanted = f"must have a number or null for each of {', '.join(columns)}"
            raise UserError(f"{where}.{key} = {row[key]!r}: {wanted}")
    names = {
        name: None if row["lr"] and lr is None else f"{row['run']}.{name}" if column["settings"] else row["run"]
        for (name, column), lr in zip(columns.items(), given["lr"], strict=True)
    }
    cells = []
    for index, (name, column) in enumerate(columns.items()):
        values = {key: given[key][index] for key in PER_COLUMN}
        if run := names[name]:
            settings = _settings(runs[row["run"]], column["settings"], values, names, where, name)
            known = runs.setdefault(run, settings)
            if known != settings:
                other = ", ".join(key for key in sorted({*known, *settings}) if known.get(key) != settings.get(key))
                raise UserError(f"{where}.run: its run {run!r} differs from that of {places[run]} in {other}")
            places.setdefault(run, where.partition(": ")[2])
        ends = {key: names[end] for key, end in (table["gap"] or {}).items()}
        cells.append({
            **_without(row, "lr", "strength"), "run": run, "column": column["label"], "method": name,
            "mean": values["mean"], "std": values["std"],
            "gap": row["gap"] or (ends if ends and None not in ends.values() else None),
        })  # fmt: skip
    return cells


def _settings(run: Mapping, changes: Mapping, values: Mapping, names: Mapping, where: str, column: str) -> dict:
    """All settings of a cell's run: those of its row's run, of the column, and the row's own lr and strength."""
    settings = {**run, **changes}
    if values["lr"] is not None:
        settings["lr"] = values["lr"]
    if values["strength"] is not None:
        if not settings.get("penalty"):
            raise UserError(f"{where}.strength: column {column!r} has no penalty; must be null there")
        settings["penalty"] = {**settings["penalty"], "strength": values["strength"]}
    if (wanted := reference_of(settings)) in names:
        if (reference := names[wanted]) is None:
            raise UserError(f"{where}.lr: column {column!r} needs the run of column {wanted!r}; not null")
        found = [{**one, "reference": reference} if "reference" in one else one for one in transforms_of(settings)]
        settings["transform"] = found if len(found) > 1 else found[0]
    return settings


def reference_of(settings: Mapping) -> str | None:
    """Return the run whose gradient norms a run grafts, from its settings as they are given."""
    return next((one["reference"] for one in transforms_of(settings) if one.get("reference")), None)


def transforms_of(settings: Mapping) -> list[Mapping]:
    """Return the transforms of a run, from its settings as they are given."""
    given = settings.get("transform") or []
    return list(given) if isinstance(given, list | tuple) else [given]


def _without(row: Mapping, *keys: str) -> dict:
    return {key: value for key, value in row.items() if key not in keys}


def _check_rows(rows: list[list[dict]], where: str) -> None:
    """No two rows of a table may be the same run at the same metric, or look the same."""
    seen = set()
    for index, cells in enumerate(rows):
        for cell in cells:
            for key, identity in (("run", (cell["run"], cell["metric"])), ("label", cell["label"])):
                if cell["run"] is not None and (key, identity, cell["column"]) in seen:
                    value = cell["row"] if key == "run" else cell["label"]
                    raise UserError(f"{where}.rows[{index}].{key} = {value!r}: another row of the table has it")
                seen.add((key, identity, cell["column"]))


def _check_planes(table: dict, where: str) -> None:
    """Planes are those of the table's runs, and the figures that draw them need one."""
    runs = [row["run"] for row in table["rows"] if row["run"] is not None]
    for index, run in enumerate(table["planes"]):
        check_known(run, runs, f"{where}.planes[{index}] = {run!r}: no run of the table")
    if drawn := [kind for kind in table["figures"] if "plane" in needs(kind) and not table["planes"]]:
        raise UserError(f"{where}.planes = []: the figure {drawn[0]} needs runs; allowed: {listed(runs)}")


def _check_figures(table: dict, runs: Mapping, where: str) -> None:
    """Figures that the table's rows cannot fill, and gaps of what is no accuracy, are refused."""
    measured = sorted({row["metric"] for row in table["rows"]} - set(ACCURACIES))
    quiet = [row["run"] for row in table["rows"] if row["run"] is not None and not runs[row["run"]].get("noise")]
    problems = {
        ACCURACY: f"is of accuracies, not of {', '.join(measured)}" if measured else "",
        GRID: "" if table["grid"] and measured else "needs a grid and a metric that is measured",
        **dict.fromkeys(NOISE, f"needs runs with `noise`, unlike {listed(quiet, 3)}" if quiet else ""),
    }
    for index, kind in enumerate(table["figures"]):
        for problem in filter(None, (problems.get(need) for need in needs(kind))):
            raise UserError(f"{where}.figures[{index}] = {kind!r}: {problem}")
    if measured and any(row["gap"] for row in table["rows"]):
        raise UserError(f"{where}.gap: is of accuracies, not of {', '.join(measured)}")


def _check_references(paper: dict, places: Mapping, file: str) -> None:
    for run, settings in paper["runs"].items():
        reference = reference_of(settings)
        if reference is not None and (reference == run or reference not in paper["runs"]):
            allowed = listed(name for name in paper["runs"] if name != run)
            key = f"{places[run]}: run {run}: transform.reference"
            raise UserError(f"{file}: {key} = {reference!r}: no such other run or column; allowed: {allowed}")
        chain = [run]
        while reference is not None and reference not in chain:
            chain.append(reference)
            reference = reference_of(paper["runs"].get(reference, {}))
        if reference is not None:
            circle = " -> ".join([*chain, reference])
            raise UserError(f"{file}: {places[run]}: run {run}: transform.reference: goes in a circle: {circle}")


def _gaps(paper: dict, file: str) -> dict[str, dict]:
    """The {from, to} of every run that has a gap or is an end of one; takes the gap from rows that are an end."""
    gaps, ends = {}, {}
    for name, table in paper["tables"].items():
        for row in table["rows"]:
            gap, where = row["gap"], f"{file}: tables.{name}: row {row['label']!r}: gap"
            for key, end in (gap or {}).items():
                check_known(end, paper["runs"], f"{where}.{key} = {end!r}: no such run")
                ends.setdefault(end, gap)
            if row["run"] is None or row["run"] in (gap or {}).values():
                row["gap"] = None
            elif gap and gaps.setdefault(row["run"], gap) != gap:
                raise UserError(f"{where} = {gap!r}: the run has another gap already, {gaps[row['run']]!r}")
    return {**ends, **gaps}


def _published_gap(row: dict, table: dict, tables: Mapping) -> float | None:
    if row["gap"] is None:
        return None
    low, high = (_published(row["gap"][end], row["metric"], table, tables) for end in ("from", "to"))
    if None in (low, high, row["mean"]) or low == high:
        return None
    return (row["mean"] - low) / (high - low)


def _published(run: str, metric: str, table: dict, tables: Mapping) -> float | None:
    """A run's published mean, in this table if it is there, otherwise in any."""
    rows = [row for content in (table, *tables.values()) for row in content["rows"]]
    means = (row["mean"] for row in rows if row["run"] == run and row["metric"] == metric)
    return next((mean for mean in means if mean is not None), None)
