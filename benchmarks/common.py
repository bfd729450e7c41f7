"""What the benchmarks share: timing side by side, and writing results/benchmarks/<name>.{json,md}."""

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import pandas as pd
import torch

from whysgd.data.build import build_dataset
from whysgd.data.canonical import Dataset, load_dataset
from whysgd.files import write_json, write_text

OUT = Path("results/benchmarks")


def seconds(work: Callable) -> float:
    """Of one call; on a GPU until all that it launched is done."""
    start = time.perf_counter()
    work()
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def side_by_side(works: dict[str, Callable], rounds: int) -> dict[str, list[float]]:
    """Seconds of each work in each round, in turns, after one call of each that is not counted."""
    for work in works.values():
        seconds(work)
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            times[name].append(seconds(work))
    return times


def median_ratio(above: list[float], below: list[float]) -> float:
    """Median over rounds of the ratio within a round."""
    return median(a / b for a, b in zip(above, below, strict=True))


def digits() -> Dataset:
    """The data set of the mini scale, built if it is not there."""
    folder = Path("results/data/digits")
    if not (folder / "manifest.json").is_file():
        build_dataset("digits", None, Path("data"), folder)
    return load_dataset(folder)


def write_table(name: str, heading: str, lines: list[dict], out: Path = OUT) -> None:
    """Write and print a table: one sentence above it, one line for each dict; text columns come first."""
    text = sum(isinstance(value, str) for value in lines[0].values())
    align = ["left"] * text + ["right"] * (len(lines[0]) - text)
    shown = pd.DataFrame(lines).map(_shown)
    table = shown.to_markdown(index=False, colalign=align, disable_numparse=True)
    write_json(out / f"{name}.json", [{k: None if v != v else v for k, v in line.items()} for line in lines])
    write_text(out / f"{name}.md", f"{heading}\n\n{table}\n")
    print((out / f"{name}.md").read_text(encoding="utf-8"), flush=True)


def _shown(value) -> str:
    if isinstance(value, str | int):
        return str(value)
    if value != value:
        return "–"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"
