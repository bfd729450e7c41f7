"""The figures of tables by name: what each needs, and its caption, read without importing a drawing library."""

from whysgd.study.registry import constant, names
from whysgd.study.validation import ROOT

# What a figure may need beside the frame of its runs: other frames of its paper, logs of the gradient noise, or points
# of `whysgd.measures.catalog.LANDSCAPES`. CONDITIONS are no inputs: the table must be of accuracies, have a grid, of a
# measured quantity, or have one of which two rows or more are run: a map of a single row repeats its line.
FRAMES, NOISE = ("histories", "measures"), ("noise", "layers", "noise_norms")
CONDITIONS = ACCURACY, GRID, ROWS = "accuracy", "grid", "rows"
FIRST_SEED = ("plane", "noise_norms")  # Of these a figure draws the first seed of each run.
FIGURES = tuple(names("figure"))


def needs(name: str) -> tuple[str, ...]:
    """Return what a figure needs beside the frame of its runs: names of `FRAMES`, `NOISE`, `LANDSCAPES`, …"""
    return constant("figure", name, "NEEDS")


def caption(name: str) -> str:
    """Return the text under a figure of a table, or under another picture: that has a file in docs/captions."""
    file = ROOT / "docs/captions" / f"{name}.rst"
    if file.is_file():
        return file.read_text(encoding="utf-8").strip()
    return constant("figure", name, "CAPTION")
