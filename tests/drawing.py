"""Small tables with frames of their runs, and figures of them."""

import math
from itertools import product

import numpy as np
import pandas as pd
from frames import measured, row, runs_frame
from frames import table_of as bare_table

from whysgd.measures.catalog import LANDSCAPE_COLUMNS
from whysgd.report.colours import run_colours
from whysgd.report.draw import draw_figure
from whysgd.report.style import plt


def table_of(*rows, **other) -> dict:
    """A laid-out table with the colours of its runs."""
    table = {**bare_table(list(rows)), "planes": [], "metric": "test_accuracy", **other}
    return {**table, "colours": run_colours({"t": table})["t"]}


def cell(name, method, **other) -> dict:
    return row(f"{name}.{method}", name.upper(), column=method.upper()) | {"row": name, "method": method} | other


def grid_table(rows: dict, columns: dict) -> dict:
    """A table of the tail index with a grid."""
    cells = [dict(zip(rows | columns, values, strict=True)) for values in product(*(rows | columns).values())]
    own = [row("-".join(map(str, axes.values())), "", metric="tail_index", axes=axes) for axes in cells]
    return table_of(*own, metric="tail_index", grid={"rows": rows, "columns": columns})


# Three runs with a plane for two of them, a fourth that is not made, and one at two metrics.
TABLE = table_of(
    row("a", "A", mean=95.0, std=0.5), row("b", "B", mean=80.0), row("c", "C"), row("d", "D", planned=False),
    row("a", "A at its best", metric="best_test_accuracy"), row(None, "E"), planes=["a", "b"],
)  # fmt: skip
CELLS = table_of(
    cell("a", "sb"), cell("a", "lb"), cell("a", "gn"), cell("b", "sb"), cell("b", "lb", planned=False),
    cell("b", "gn", run=None, planned=False), cell("c", "sb", planned=False),
    cell("a", "sb", label="A again", metric="best_test_accuracy"), columns={"sb": {}, "lb": {}, "gn": {}},
    gap={"from": "lb", "to": "sb"},
)  # fmt: skip
GRID = grid_table({"loss": ["cross_entropy", "linear_hinge"], "depth": [2, 4, 8]}, {"width": [4, 16, 64, 256]})


def draw(figure, table=TABLE, seeds=3, **frames):
    """Draw a figure of a table; frames that are not given are those of `frames_of`."""
    drawn = draw_figure(figure, table, {**frames_of(table, seeds), **frames})
    plt.close(drawn)
    return drawn


def spoken(figure) -> str:
    """The title of a figure in one line."""
    return figure.get_suptitle().replace("\n", " ")


def texts_of(parts) -> list[str]:
    return [part.get_text() for part in parts]


def frames_of(table, seeds=3) -> dict[str, pd.DataFrame]:
    """What was found of a table's runs; the place of a run in the table makes its numbers."""
    axes = {row["run"]: row.get("axes") for row in table["rows"] if row["planned"]}
    accuracies = {run: [90.0 + place + 0.1 * seed for seed in range(seeds)] for place, run in enumerate(axes)}
    runs = runs_frame(accuracies, parameters=20_000, best_test_accuracy=99.0)

    found = {"keskar_sharpness": lambda line: 10.0**line.seed}
    if table["grid"]:
        levels = {run: 1.6 - 0.05 * math.log2(own.get("width", 1)) + 0.01 * own.get("depth", 0)
                  for run, own in axes.items()}  # fmt: skip
        found["tail_index"] = lambda line: levels[line.run] + 0.001 * line.seed
    lines = {name: [] for name in ("noise", "noise_norms", "layers")}
    for (place, run), seed in product(enumerate(axes), range(seeds)):
        key = {"paper": "p", "run": run, "scale": "mini", "seed": seed}
        end = 650 if place else 200 + 100 * seed
        for step in (*(step for step in (0, 1, 5, 20, 80, 300) if step < end), end):
            index = 1.5 - 0.001 * step
            course = {"tail_index": index + 0.1 * seed, "tail_index_low": index - 0.1, "tail_index_high": index + 0.2}
            lines["noise"].append({**key, "step": step, **course})
        lines["noise_norms"] += [{**key, "step": step, "noise_norm": 0.5 + b / 32 * (step > 0)}
                                 for step in (0, end) for b in range(32)]  # fmt: skip
        layers = ["x.weight", "x.bias", "y.weight", "z.weight"][: max(1, 4 - place)]
        lines["layers"] += [{**key, "step": step, "layer": name, "weight_norm": 3.0 + number + seed,
                             "gradient_norm": 0.1 * step + number}
                            for step in (0, 1, 9) for number, name in enumerate(layers)]  # fmt: skip
    return {
        "runs": runs, "measures": measured(runs, **found), **{name: pd.DataFrame(own) for name, own in lines.items()},
        "histories": histories_of(axes, seeds), "line": points_of(axes, "line"), "plane": points_of(axes),
    }  # fmt: skip


def histories_of(runs, seeds=3, length=5) -> pd.DataFrame:
    """Norms at every step, and an accuracy at every other, the lower the later a run is in the list."""
    parts = []
    for (level, run), seed in product(zip(range(9, 0, -1), runs, strict=False), range(seeds)):
        step = np.arange(1, length + 1)
        accuracy = np.where(step % 2 == 1, 10.0 * level + seed, np.nan)
        parts.append(pd.DataFrame({
            "run": run, "seed": seed, "step": step, "epoch": step, "test_accuracy": accuracy, "train_accuracy": accuracy,
            "step_loss": 1 / step, "train_loss": 1 / step, "gradient_norm": 2.0, "micro_batch_norm2": level * (1 + seed) ** 2,
        }))  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def points_of(runs, kind="plane", seeds=(0,)) -> pd.DataFrame:
    """Parabolas, the steeper the later a run is in the list."""
    grid, lines = np.linspace(-1, 1, 5), []
    for (steep, run), seed in product(enumerate(runs, 1), seeds):
        for x, y in product(grid, grid if kind == "plane" else [0.0]):
            loss = 0.1 + seed + steep * (x * x + 2 * y * y)
            lines.append(("p", run, seed, kind, x, y, loss, 90.0 - 10 * x * x, 0.0, loss, loss))
    return pd.DataFrame(lines, columns=LANDSCAPE_COLUMNS)
