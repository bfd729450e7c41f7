"""The figures of tables by name: what each needs, and its caption, read without importing a drawing library."""

import ast
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from whysgd.errors import UserError
from whysgd.study.validation import ROOT

FOLDER = ROOT / "whysgd/report/figures"
# What a figure may need beside the frame of its runs: other frames of its paper, its table's own, logs of the gradient
# noise, or points of `whysgd.measures.catalog.LANDSCAPES`. GRID is no input: the table must have a grid, of a measured
# quantity.
FRAMES, TABLE, NOISE, GRID = ("histories", "measures"), "table", ("noise", "layers", "noise_norms"), "grid"


FIGURES = tuple(sorted(path.stem for path in FOLDER.glob("[!_]*.py")))


def located(name: str) -> tuple[str, str]:
    """Return module and function of a figure: of a name of the package, or of `my_package.my_module:my_figure`."""
    module, _, function = name.partition(":")
    return (module, function) if function else (f"whysgd.report.figures.{name}", name)


@cache
def _literals(name: str) -> dict:
    try:
        spec = find_spec(located(name)[0])
    except ModuleNotFoundError:
        spec = None
    if spec is None:
        raise UserError(f"figure {name!r}: no such figure; allowed: {', '.join(FIGURES)}")
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"), spec.origin)
    known = [node for node in tree.body if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)]
    wanted = [node for node in known if node.targets[0].id in ("NEEDS", "CAPTION")]
    return {node.targets[0].id: ast.literal_eval(node.value) for node in wanted}


def needs(name: str) -> tuple[str, ...]:
    """Return what a figure needs beside the frame of its runs: names of `FRAMES`, `TABLE`, `LANDSCAPES`, …"""
    return _literals(name)["NEEDS"]


def caption(name: str) -> str:
    """Return the text under a figure of a table, or under another picture: that has a file in docs/captions."""
    file = ROOT / "docs/captions" / f"{name}.rst"
    return file.read_text(encoding="utf-8").strip() if file.is_file() else _literals(name)["CAPTION"]
