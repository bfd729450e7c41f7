"""What the measures found, of all runs: one tidy frame, one with a column for each quantity, and one for readers."""

import math
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from whysgd.errors import UserError
from whysgd.files import read_json
from whysgd.measures.catalog import MEASURES, QUANTITIES
from whysgd.report.frame import KEYS

COLUMNS = [
    *KEYS, "measure", "status", "quantity", "value", "std_error", "low", "high", "samples", "seconds", "cpu_seconds",
    "older",
]  # fmt: skip
# What is measured on, so that only like is compared with like.
NETWORK = ["dataset", "model"]


def read_measures(files: Iterable[str | Path]) -> pd.DataFrame:
    """One line for each quantity of each result in the JSON files of measures: the columns `COLUMNS`.

    What a measure does not define, everything of a diverged run among it, is NaN; so are `low` and `high`, the ends of
    the 95 % interval, of a quantity that has none. An interval may be infinite. The costs are the whole measure's.
    `older` says whether it was measured by code that may give other numbers than today's; of records alone.

    Raises:
        UserError: a file is missing or damaged, or has a quantity that `whysgd.measures.catalog` does not; the message
            names it.
    """
    return pd.DataFrame(
        [line for file in files for result in read_json(file) for line in measure_lines(result, file)], columns=COLUMNS
    )


def measure_lines(result: dict, file: str | Path) -> list[dict]:
    """The lines of one measure's result; `file` is where it comes from, for messages."""
    try:
        common = {key: result[key] for key in (*KEYS, "measure", "status")}
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
    """One line for each run and seed: paper, run, scale, seed, status, dataset, model, settings, and `QUANTITIES`.

    A quantity that was not measured is NaN. The test accuracy is then the one that training ended with, which is the
    same number, unless the run diverged.

    Args:
        measures: the frame of `read_measures`.
        runs: the frame of `whysgd.report.frame.read_runs`, of the same scale.
    """
    values = measures.set_index([*KEYS, "quantity"]).value.unstack()
    values = values.reindex(columns=list(QUANTITIES)).astype(float).reset_index()
    lines = runs[[*KEYS, "status", *NETWORK, "settings_digest"]].merge(values, on=KEYS, how="left")
    ended = runs.test_accuracy.astype(float).where(runs.status == "finished").reset_index(drop=True)
    lines["test_accuracy"] = lines.test_accuracy.fillna(ended)
    return lines


def over_seeds(lines: pd.DataFrame) -> pd.DataFrame:
    """One line for each run: its mean of each quantity over the seeds that finished.

    Runs of a paper that differ in their names alone, because two tables state the same settings, are one.

    Args:
        lines: the frame of `wide`.

    Returns:
        paper, dataset, model, run, and each of `QUANTITIES`, NaN where no seed has it.
    """
    names = ["paper", *NETWORK, "run", "settings_digest"]
    means = lines[lines.status == "finished"].groupby(names, sort=False)[list(QUANTITIES)].mean().reset_index()
    return means.drop_duplicates(["paper", "settings_digest"], ignore_index=True)


def readable(lines: pd.DataFrame) -> pd.DataFrame:
    """For readers: a line for each run, with mean ± standard deviation (n − 1) over its seeds.

    Args:
        lines: the frame of `wide`.

    Returns:
        text: `run` as paper/run, `seeds` that finished, how many `diverged`, data set and network where there are
        several, and a column for each measured quantity, with its unit.
    """
    several = [name for name in NETWORK if lines[name].nunique() > 1]
    measured = [name for name in QUANTITIES if lines[name].notna().any()]
    rows = []
    for (paper, run, *_), group in lines.groupby(["paper", "run", *NETWORK], sort=False):
        finished = group[group.status == "finished"]
        names = {"run": f"{paper}/{run}", "seeds": str(len(finished)), "diverged": str(len(group) - len(finished))}
        cells = {titled(name): spread(finished[name].dropna().tolist()) for name in measured}
        rows.append({**names, **{name: group[name].iloc[0] for name in several}, **cells})
    return pd.DataFrame(rows, columns=["run", "seeds", "diverged", *several, *(titled(name) for name in measured)])


def titled(quantity: str) -> str:
    """A quantity's label with its unit."""
    known = QUANTITIES[quantity]
    return f"{known.label} [{known.unit}]" if known.unit else known.label


def measure_title(measure: str) -> str:
    """A measure's name for readers."""
    return {"keskar": "Keskar sharpness", "hessian": "Hessian", "fisher": "Fisher information"}.get(
        measure, measure.replace("_", " ")
    )


def grouped(table: pd.DataFrame) -> pd.DataFrame:
    """The frame of `readable` with the names of the measures above the columns."""
    measures = {titled(name): measure_title(measure) for measure, names in MEASURES.items() for name in names}
    columns = [(measures.get(column, ""), column) for column in table.columns]
    return table.set_axis(pd.MultiIndex.from_tuples(columns), axis=1)


def spread(values: list[float]) -> str:
    """Mean ± standard deviation, with three significant digits of the larger; – of nothing, the number of a single one.

    A standard deviation that this would make a 0 gets one digit, as long as the mean then has no more than five.
    """
    if not values:
        return "–"
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return rounded(mean)
    return spread_of(mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)))


def spread_of(mean: float, std: float) -> str:
    """Mean ± standard deviation; `spread` says with how many digits."""
    large = max(abs(mean), std)
    if not 1e-3 <= large < 1e5:
        return f"{mean:.3g} ± {std:.2g}"
    first = math.floor(math.log10(large))
    wanted = -math.floor(math.log10(std)) if std > 0 else 0
    digits = max(0, 2 - first, min(wanted, 4 - first))
    return f"{round(mean, digits) + 0:.{digits}f} ± {std:.{digits}f}"


def rounded(value: float) -> str:
    """Three significant digits; integers keep all of theirs, up to 99999."""
    if math.isnan(value):
        return "–"
    if value == 0 or not 1e-3 <= abs(value) < 1e5:
        return f"{value:.3g}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def readable_to_markdown(table: pd.DataFrame, setting: str) -> str:
    """The frame of `readable`, a table for each measure, since a page of text is not as wide as all of them."""
    parts = [f"Measured: {setting}. Mean ± standard deviation over the seeds that finished."]
    names = [column for column in table.columns if column not in {titled(name) for name in QUANTITIES}]
    for measure, quantities in MEASURES.items():
        shown = [titled(name) for name in quantities if titled(name) in table]
        if shown:
            title = measure_title(measure)
            align = ["left" if name in ("run", *NETWORK) else "right" for name in (*names, *shown)]
            body = table[[*names, *shown]].to_markdown(index=False, colalign=align, disable_numparse=True)
            parts.append(f"**{title[:1].upper()}{title[1:]}**\n\n{body}")
    return "\n\n".join(parts if len(parts) > 1 else [*parts, "Nothing was measured."]) + "\n"
