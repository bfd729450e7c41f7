"""What the measures show, in tables and sentences that the numbers choose."""

import pandas as pd

from whysgd.measures.catalog import QUANTITIES
from whysgd.report import correlations as pairs
from whysgd.report.correlations import AT_LOSS, COEFFICIENTS, COMPARED, FEWEST, OVERALL, TARGETS, sides
from whysgd.report.frame import KEYS
from whysgd.report.measures import measure_title
from whysgd.report.table import Cell, Table

SUMMARY = "What the measures say"
# The mark of an interval that excludes 0: on the expected side, on the other one, and where no side is expected.
EXPECTED, AGAINST, OPEN = "✓", "✗", "○"
LEGEND = (
    f"Kendall's τ over pairs of runs (means over seeds) of the same paper, data set, network and loss function, {{}}."
    f" At the same loss: training losses within a factor of {pairs.BAND:g}, all below {pairs.FLOOR:g} counting as that;"
    " τ of all pairs mixes underfitted runs with fitted ones. Ψ (Jiang et al. 2020) is the mean τ of pairs that differ"
    " in one setting alone, the worst sign error (Dziugaite et al. 2020) the largest share of them in wrong order,"
    f" {{}}; by chance half. With 95 % intervals over runs. {EXPECTED}: the whole interval is on the"
    " side where flatter, or quieter, minima generalize better, with higher test accuracy and smaller gaps;"
    f" {AGAINST}: it is on the other side; {OPEN}: it excludes 0, and no side is expected."
)


def summary_blocks(correlations: pd.DataFrame, measures: pd.DataFrame, runs: pd.DataFrame, setting: str) -> list:
    """Return the summary of the frame of `correlate`, and the tidy frames that it comes from, as blocks of a text."""
    open_side = ((correlations.low > 0) | (correlations.high < 0)).map({True: OPEN, False: ""})
    marks = sides(correlations).map({1: EXPECTED, -1: AGAINST, 0: ""})
    marked = correlations.assign(mark=marks.reindex(correlations.index).fillna(open_side))
    overall = marked[marked.scope == OVERALL]
    return [f"Measured: {setting}.", _counts(measures, runs), _overall(overall), *_caveats(overall)]


def _counts(measures: pd.DataFrame, runs: pd.DataFrame) -> str:
    seeds = runs.groupby(["paper", "run"]).seed.nunique()
    each = f"{seeds.min()}" if seeds.min() == seeds.max() else f"{seeds.min()} to {seeds.max()}"
    finished = int((runs.status == "finished").sum())
    known = measures[measures.value.notna()].drop_duplicates([*KEYS, "measure"]).measure.value_counts()
    missing = [f"{measure_title(name)} ({finished - known.get(name, 0)})" for name in measures.measure.unique()
               if known.get(name, 0) < finished]  # fmt: skip
    return (
        f"Papers: {runs.paper.nunique()}; runs: {len(seeds)}; seeds of each: {each}; trained networks: {len(runs)};"
        f" diverged, and so without numbers: {len(runs) - finished}."
        + (f" Finished networks without a measure: {', '.join(missing)}." if missing else "")
    )


def _overall(overall: pd.DataFrame) -> Table:
    """Return a line for each measure, with all coefficients below each target."""
    found = overall.set_index(["quantity", "target", "coefficient"])
    known = overall[overall.value.notna()]
    targets = [target for target in TARGETS if target in set(known.target)] or TARGETS
    shown = [name for name in COMPARED if name in set(known.quantity)] or COMPARED
    below = [(target, one) for target in targets for one in COEFFICIENTS]
    texts = ([QUANTITIES[name].label, *(_number(found.loc[name, *place]) for place in below)] for name in shown)
    rows = [list(map(Cell, line)) for line in texts]
    heads, numbers = ["measure", *(COEFFICIENTS[one] for _, one in below)], [False, *[True] * len(below)]
    groups = [("", 1), *((QUANTITIES[target].label, len(COEFFICIENTS)) for target in targets)]
    notes = [f"–: fewer than {FEWEST} such pairs, or no side is expected."] if overall.value.isna().any() else []
    notes += [f"Measures without a number are left out: {rest}."] if (rest := len(COMPARED) - len(shown)) else []
    raw, same, alone = (overall[overall.coefficient == one].max() for one in (pairs.RAW, AT_LOSS, pairs.GRANULATED))
    several = f" in {raw.parts} groups" if raw.parts > 1 else ""
    behind = f"n = {raw.runs}{several}, {same.pairs} of {raw.pairs} pairs at the same loss" if raw.runs else "n = 0"
    legend = LEGEND.format(behind, f"in {alone.parts} groups and settings with {alone.pairs} pairs")
    return Table("All papers", heads, numbers, rows, groups, above=[legend], notes=notes)


def _number(line: pd.Series) -> str:
    if pd.isna(line.value):
        return "–"
    sign, mark = ("", "") if line.name[-1] == pairs.SIGN_ERROR else ("+z", line.mark)
    ends = "" if pd.isna(line.low) else f" [{line.low:{sign}.2f}, {line.high:{sign}.2f}]"
    return f"{line.value:{sign}.2f}{ends} {mark}".rstrip()


def _caveats(overall: pd.DataFrame) -> list[str]:
    known = overall[overall.value.notna() & (overall.coefficient == AT_LOSS)]
    if known.empty:
        return []
    count = known.low.count()
    return [
        f"Intervals at the same training loss: {count}, of which {(known.mark != '').sum()} exclude 0; if no measure"
        f" had to do with generalization, about {0.05 * count:.0f} would by chance, more of few runs. They"
        " share runs, so they are right or wrong together, and one that only just excludes 0 is no finding.",
        f"A τ comes from {known.runs.min()} to {known.runs.max()} runs, which are variations of one recipe in each"
        " paper. The same training loss need not be a small one: runs that are equally underfitted count as well. An"
        f" order without exception has an interval without width, and of fewer than {pairs.ORDERED} pairs it has none."
        " That two numbers order runs alike does not say that one causes the other.",
    ]
