"""Small tables, and frames of their runs, to draw figures of."""

import math

import numpy as np
import pandas as pd

from whysgd.measures.catalog import LANDSCAPE_COLUMNS
from whysgd.report.colours import method_colours
from whysgd.report.draw import draw_figure


def row(run, label, column=None, **other) -> dict:
    """A laid-out row, as `whysgd.study.layout` makes it."""
    return {"run": run, "row": run, "label": label, "column": column, "method": column or run, "metric": "test_accuracy",
            "mean": None, "std": None, "gap": None, "published_gap": None, "planned": run is not None, **other}  # fmt: skip


def table_of(*rows, **other) -> dict:
    table = {"title": "T", "setting": "S", "columns": None, "grid": None, "planes": [], "metric": "test_accuracy",
             "rows": list(rows), **other}  # fmt: skip
    return {**table, "colours": method_colours({"t": table})["t"]}


# Three runs with a plane for two of them, a fourth that is not made, and one at two metrics.
TABLE = table_of(
    row("a", "A", mean=95.0, std=0.5), row("b", "B", mean=80.0), row("c", "C"), row("d", "D", planned=False),
    row("a", "A at its best", metric="best_test_accuracy"), row(None, "E"), planes=["a", "b"],
)  # fmt: skip


def cell(name, method, **other) -> dict:
    return {**row(f"{name}.{method}", name.upper(), method.upper()), "row": name, "method": method, **other}


CELLS = table_of(
    cell("a", "sb"), cell("a", "lb"), cell("a", "gn"), cell("b", "sb"), cell("b", "lb", planned=False),
    cell("b", "gn", run=None, planned=False), cell("c", "sb", planned=False),
    cell("a", "sb", label="A again", metric="best_test_accuracy"), columns={"sb": {}, "lb": {}, "gn": {}},
)  # fmt: skip


def grid_table(rows: dict, columns: dict) -> dict:
    """A table of the tail index with a grid."""
    axes = rows | columns
    cells = [dict(zip(axes, values, strict=True)) for values in np.ndindex(*map(len, axes.values()))]
    cells = [{name: axes[name][place] for name, place in cell.items()} for cell in cells]
    return table_of(
        *(row("-".join(map(str, cell.values())), "", metric="tail_index", axes=cell) for cell in cells),
        metric="tail_index", grid={"rows": rows, "columns": columns},
    )  # fmt: skip


GRID = grid_table({"loss": ["cross_entropy", "linear_hinge"], "depth": [2, 4, 8]}, {"width": [4, 16, 64, 256]})


def runs_of(table, seeds=3, **other) -> pd.DataFrame:
    names = dict.fromkeys(row["run"] for row in table["rows"] if row["planned"])
    return pd.DataFrame([
        {"paper": "p", "run": run, "scale": "mini", "seed": seed, "steps": 30, "parameters": 20_000, "status": "finished",
         "test_accuracy": 90.0 + place + 0.1 * seed, "best_test_accuracy": 99.0, "dataset": "digits", "train_images": 5,
         "held_out_images": 0, "test_images": 6, "model": "m", "device": "cpu", "settings_digest": run, **other}
        for place, run in enumerate(names) for seed in range(seeds)
    ])  # fmt: skip


def measures_of(runs, quantity="keskar_sharpness", value=lambda run: 10.0**run.seed) -> pd.DataFrame:
    keys = ["paper", "run", "scale", "seed"]
    lines = [{**run[keys], "quantity": quantity, "value": value(run)} for _, run in runs.iterrows()]
    return pd.DataFrame(lines, columns=[*keys, "quantity", "value"])


def histories_of(table, length=5, seeds=3) -> pd.DataFrame:
    """Norms at every step, and an accuracy at every other, the lower the later a run is in its table."""
    parts = []
    names = dict.fromkeys(row["run"] for row in table["rows"] if row["run"])
    for level, run in zip(range(9, 0, -1), names, strict=False):
        for seed in range(seeds):
            step = np.arange(1, length + 1)
            accuracy = np.where(step % 2 == 1, 10.0 * level + seed, np.nan)
            parts.append(pd.DataFrame({
                "run": run, "seed": seed, "step": step, "epoch": step, "test_accuracy": accuracy, "step_loss": 1.0 / step,
                "gradient_norm": 2.0, "micro_batch_norm2": level * (1 + seed) ** 2, "train_loss": 1.0 / step,
                "train_accuracy": accuracy,
            }))  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def points_of(runs=("a", "b", "c"), kind="plane", seeds=(0,)) -> pd.DataFrame:
    """Parabolas, the steeper the later a run is in the list."""
    grid, lines = np.linspace(-1, 1, 5), []
    for steep, run in enumerate(runs, 1):
        for seed in seeds:
            for x, y in [(x, y) for x in grid for y in (grid if kind == "plane" else [0.0])]:
                loss = 0.1 + seed + steep * (x * x + 2 * y * y)
                lines.append(("p", run, seed, kind, x, y, loss, 90.0 - 10 * x * x, 0.0, loss))
    return pd.DataFrame(lines, columns=LANDSCAPE_COLUMNS)


def noise_of(*ends) -> pd.DataFrame:
    """The tail index along runs, from (run, seed, last step)."""
    return pd.DataFrame([
        {"run": run, "seed": seed, "step": step, "tail_index": 1.5 - 0.001 * step + 0.1 * seed,
         "tail_index_low": 1.4 - 0.001 * step, "tail_index_high": 1.7 - 0.001 * step}
        for run, seed, end in ends for step in (*(step for step in (0, 1, 5, 20, 80, 300) if step < end), end)
    ])  # fmt: skip


def norms_of(*ends) -> pd.DataFrame:
    """Norms of the noise at the start and the end of runs, from (run, seed, last step)."""
    return pd.DataFrame([
        {"run": run, "seed": seed, "step": step, "noise_norm": 0.5 + b / 32 * (step > 0)}
        for run, seed, end in ends for step in (0, end) for b in range(32)
    ])  # fmt: skip


def layers_of(**layers) -> pd.DataFrame:
    """Norms of layers along two seeds of runs, from the names of each run's layers."""
    return pd.DataFrame([
        {"run": run, "seed": seed, "step": step, "layer": name, "weight_norm": 3.0 + place + seed,
         "gradient_norm": 0.1 * step + place}
        for run, names in layers.items() for seed in (0, 1) for step in (0, 1, 9) for place, name in enumerate(names)
    ])  # fmt: skip


def draw(figure, table=TABLE, **frames):
    """Draw a figure of a table; it has three seeds of each run, if no others are given."""
    return draw_figure(figure, table, {"runs": runs_of(table), **frames})


def tail_measures(table=GRID, seeds=3, value=None) -> pd.DataFrame:
    """The tail index of each cell of a grid of networks: value(axes, seed)."""

    def falling(axes, seed):
        return 1.6 - 0.05 * math.log2(axes["width"]) + 0.01 * axes["depth"] + 0.001 * seed

    axes = {row["run"]: row["axes"] for row in table["rows"]}
    return measures_of(runs_of(table, seeds), "tail_index", lambda run: (value or falling)(axes[run.run], run.seed))
