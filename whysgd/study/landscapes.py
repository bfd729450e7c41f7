"""Which landscapes the figures of a table show, and of which runs."""

from collections.abc import Iterable, Mapping

from whysgd.measures.catalog import LANDSCAPES
from whysgd.study.spec import RunSpec


def landscape_kinds(config: Mapping, table: Mapping) -> list[str]:
    """Return which landscapes a table's figures show: "line", "plane"."""
    return sorted({LANDSCAPES[name] for name in table["figures"] if name in LANDSCAPES}) if config["measures"] else []


def drawn_runs(specs: Iterable[RunSpec], paper: str, table: Mapping, kind: str) -> list[RunSpec]:
    """Return the runs of a table whose landscapes of a kind are drawn, in order, at their first seed."""
    rows = dict.fromkeys(row["run"] for row in table["rows"] if row["planned"])
    first: dict[str, RunSpec] = {}
    for spec in specs:
        if spec.paper == paper and (spec.run not in first or spec.seed < first[spec.run].seed):
            first[spec.run] = spec
    return [first[run] for run in (rows if kind == "line" else table["planes"])]
