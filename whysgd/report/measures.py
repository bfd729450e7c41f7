"""What the measures found of all runs: a tidy frame, one with a column for each quantity, and a table for readers."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean, stdev

import pandas as pd

from whysgd.errors import UserError
from whysgd.measures.catalog import MEASURES, QUANTITIES, include
from whysgd.report.frame import KEYS
from whysgd.report.table import Cell, Table
from whysgd.results.metrics import read_measured

COLUMNS = [
    *KEYS, "measure", "status", "quantity", "value", "std_error", "low", "high", "samples", "seconds", "cpu_seconds",
    "older",
]  # fmt: skip
# What is measured on, so that only like is compared with like.
NETWORK = ["dataset", "model"]


def read_measures(files: Iterable[str | Path]) -> pd.DataFrame:
    """Return one line for each quantity of each result in the JSON files of measures: the columns `COLUMNS`.

    What a measure does not define, everything of a diverged run among it, is NaN; so are the ends of the 95 % interval,
    `low` and `high`, of a quantity that has none. The costs are the whole measure's. Records alone can be `older`:
    measured by code that may give other numbers than today's.

    Raises:
        UserError: a file is missing or damaged, or has a quantity that `whysgd.measures.catalog` does not; the message
            names it.
    """
    results = ((result, file) for file in files for result in read_measured(file))
    return pd.DataFrame([line for result, file in results for line in measure_lines(result, file)], columns=COLUMNS)


def measure_lines(result: dict, file: str | Path) -> list[dict]:
    """Return the lines of one measure's result; `file` is where it comes from, for messages."""
    try:
        common = {key: result[key] for key in (*KEYS, "measure", "status")}
        if ":" in common["measure"]:
            include(common["measure"])
        cost = {key: float(result["cost"][key]) for key in ("seconds", "cpu_seconds")}
        lines = [
            {**common, "quantity": name, **_numbers(quantity), **cost, "older": False}
            for name, quantity in result["quantities"].items()
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{file}: not the result of a measure ({error!r})") from None
    if unknown := [line["quantity"] for line in lines if line["quantity"] not in QUANTITIES]:
        raise UserError(f"{file}: quantities: no quantity {unknown[0]!r}; allowed: {', '.join(QUANTITIES)}")
    return lines


def _numbers(quantity: dict) -> dict:
    value, error = (math.nan if quantity[key] is None else float(quantity[key]) for key in ("value", "std_error"))
    low = high = math.nan
    if "interval" in quantity and not math.isnan(value):  # JSON has no infinity.
        low, high = (end if number is None else float(number)
                     for number, end in zip(quantity["interval"], (-math.inf, math.inf), strict=True))  # fmt: skip
    return {"value": value, "std_error": error, "low": low, "high": high, "samples": int(quantity["samples"])}


def wide(measures: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Return a line for each run and seed: paper, run, scale, seed, status, dataset, model, settings, and `QUANTITIES`.

    A quantity that was not measured is NaN. The test accuracy is then the one that training ended with, which is the
    same number, unless the run diverged. `measures` and `runs` are the frames of `read_measures` and `read_runs`.
    """
    values = measures.set_index([*KEYS, "quantity"]).value.unstack()
    values = values.reindex(columns=list(QUANTITIES)).astype(float).reset_index()
    lines = runs[[*KEYS, "status", *NETWORK, "settings"]].merge(values, on=KEYS, how="left")
    ended = runs.test_accuracy.astype(float).where(runs.status == "finished").reset_index(drop=True)
    lines["test_accuracy"] = lines.test_accuracy.fillna(ended)
    return lines


def over_seeds(lines: pd.DataFrame) -> pd.DataFrame:
    """Return a line for each run of the frame of `wide`: its mean of each quantity over the seeds that finished.

    Runs of a paper that differ in their names alone, because two tables state the same settings, are one. A quantity
    that no seed has is NaN.
    """
    names = ["paper", *NETWORK, "run", "settings"]
    means = lines[lines.status == "finished"].groupby(names, sort=False)[list(QUANTITIES)].mean()
    # What differs by rounding alone has the same rank.
    means = means.map(lambda value: float(f"{value:.12g}")).reset_index()
    return means.drop_duplicates(["paper", "settings"], ignore_index=True)


def measures_table(lines: pd.DataFrame) -> Table:
    """Return a line for each run of the frame of `wide`, with mean ± standard deviation (n − 1) over its seeds."""
    several = [name for name in NETWORK if lines[name].nunique() > 1]
    measured = [name for name in QUANTITIES if lines[name].notna().any()]
    rows = []
    for (paper, run, *_), group in lines.groupby(["paper", "run", *NETWORK], sort=False):
        finished, name = group[group.status == "finished"], f"{paper}/{run}"
        texts = [str(len(finished)), str(len(group) - len(finished)), *(group[column].iloc[0] for column in several)]
        numbers = ((spread(finished[quantity].dropna().tolist()), quantity) for quantity in measured)
        cells = (Cell(text, name, quantity) if text != "–" else Cell(text) for text, quantity in numbers)
        rows.append([Cell(name, name), *map(Cell, texts), *cells])
    heads = ["run", "seeds", "diverged", *several, *map(titled, measured)]
    numbers = [False, True, True, *[False] * len(several), *[True] * len(measured)]
    # The first column stands by itself: it stays when the others are scrolled.
    groups = [("", 1), ("", 2 + len(several))]
    counts = {measure_title(name): len({*measured} & {*quantities}) for name, quantities in MEASURES.items()}
    groups += [(title, count) for title, count in counts.items() if count]
    return Table("Every run, every measure", heads, numbers, rows, groups)


def titled(quantity: str) -> str:
    """Return a quantity's label with its unit."""
    known = QUANTITIES[quantity]
    return f"{known.label} [{known.unit}]" if known.unit else known.label


def measure_title(measure: str) -> str:
    """Return a measure's name for readers."""
    names = {"keskar": "Keskar sharpness", "hessian": "Hessian", "fisher": "Fisher information"}
    return names.get(measure, measure.replace("_", " "))


def spread(values: Sequence[float]) -> str:
    """Return mean ± standard deviation with three significant digits of the larger; – of nothing, one number alone.

    A standard deviation that this would make a 0 gets one digit, as long as the mean then has no more than five.
    """
    if len(values) > 1:
        return spread_of(fmean(values), stdev(values))
    return rounded(*values) if values else "–"


def spread_of(mean: float, std: float) -> str:
    """Return mean ± standard deviation; `spread` says with how many digits."""
    large = max(abs(mean), std)
    if not 1e-3 <= large < 1e5:
        return f"{mean:.3g} ± {std:.2g}"
    first = math.floor(math.log10(large))
    wanted = -math.floor(math.log10(std)) if std > 0 else 0
    digits = max(0, 2 - first, min(wanted, 4 - first))
    return f"{round(mean, digits) + 0:.{digits}f} ± {std:.{digits}f}"


def rounded(value: float) -> str:
    """Return three significant digits; integers keep all of theirs, up to 99999."""
    if math.isnan(value):
        return "–"
    if value == 0 or not 1e-3 <= abs(value) < 1e5:
        return f"{value:.3g}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"
