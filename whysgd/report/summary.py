"""What the measures show, in tables and sentences that the numbers choose."""

import pandas as pd

from whysgd.measures.catalog import QUANTITIES
from whysgd.report.correlations import COMPARED, FEWEST, OVERALL, TARGETS, expected_sign, redundant
from whysgd.report.frame import KEYS
from whysgd.report.measures import measure_title, over_seeds, rounded, wide
from whysgd.report.table import Cell, Heading, Table

SUMMARY = "What the measures say"
# The mark of an interval that excludes 0: on the expected side, on the other one, and where no side is expected.
EXPECTED, AGAINST, OPEN = "✓", "✗", "○"
LEGEND = (
    f"Spearman's rank correlation over runs (means over seeds) with its 95 % interval. {EXPECTED}: the whole interval"
    " is on the side where flatter, or quieter, minima generalize better, with higher test accuracy and smaller gaps;"
    f" {AGAINST}: it is on the other side; {OPEN}: it excludes 0, and no side is expected."
)
COSTS = (
    "Medians over trained networks. The standard error is that of measuring one network, not the spread over seeds, and"
    " of an eigenvalue the residual, which bounds its error; seconds are those of the whole measure."
)


def summary_blocks(correlations: pd.DataFrame, measures: pd.DataFrame, runs: pd.DataFrame, setting: str) -> list:
    """Return the summary as blocks of `whysgd.report.table`.

    Args:
        correlations: the frame of `whysgd.report.correlations.correlate`.
        measures, runs: the tidy frames that it comes from.
        setting: on what was measured.
    """
    lines = wide(measures, runs)
    marked = correlations.assign(mark=[_mark(line) for line in correlations.itertuples()])
    papers = marked[marked.scope != OVERALL]
    return [
        f"Measured: {setting}.", _counts(measures, runs),
        Heading("What ranks runs as test accuracy and its gaps do"),
        _overall(marked[marked.scope == OVERALL]),
        *([_by_paper(papers)] if papers.scope.nunique() > 1 else []),
        Heading("Where papers disagree"), *_disagreements(papers),
        Heading("Measures that rank runs alike"), *_alike(lines),
        Heading("Uncertainty and cost"), _costs(measures),
        Heading("How far to trust this"), *_caveats(marked, lines, runs),
    ]  # fmt: skip


def _mark(line) -> str:
    """Return the mark of a line of the correlations; empty if its interval includes 0 or there is none."""
    side = (line.low > 0) - (line.high < 0)
    expected = expected_sign(line.quantity, line.target)
    return "" if not side else OPEN if not expected else EXPECTED if side == expected else AGAINST


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
    found = overall.set_index(["quantity", "target"])
    rows = [
        [Cell(QUANTITIES[name].label), *(Cell(_correlation(found.loc[name, target])) for target in TARGETS)]
        for name in COMPARED
    ]
    heads = ["measure", *(QUANTITIES[target].label for target in TARGETS)]
    notes = [f"–: no network has {FEWEST} runs with different numbers."] if overall.rho.isna().any() else []
    above = [f"Among runs of the same paper, data set and network ({_sizes(overall)}). {LEGEND}"]
    return Table("All papers", heads, [False, *[True] * len(TARGETS)], rows, above=above, notes=notes)


def _correlation(line: pd.Series) -> str:
    if pd.isna(line.rho):
        return "–"
    return f"{line.rho:+.2f} [{line.low:+.2f}, {line.high:+.2f}] {line.mark}".rstrip()


def _by_paper(papers: pd.DataFrame) -> Table:
    """Count the marks of each paper."""
    rows = []
    for paper, part in papers.groupby("scope", sort=False):
        counts = [_marks(part[part.target == target]) for target in TARGETS]
        rows.append([Cell(text) for text in (paper, _sizes(part), *counts)])
    heads = ["paper", "runs", *(QUANTITIES[target].label for target in TARGETS)]
    above = ["How many measures have an interval that excludes 0, on which side, of those with a correlation."]
    return Table("Each paper", heads, [False, False, *[True] * len(TARGETS)], rows, above=above)


def _marks(part: pd.DataFrame) -> str:
    counts = ((mark, int((part.mark == mark).sum())) for mark in (EXPECTED, AGAINST, OPEN))
    said = ", ".join(f"{count} {mark}" for mark, count in counts if count)
    return f"{said or 'none'} of {known}" if (known := part.rho.notna().sum()) else "–"


def _sizes(lines: pd.DataFrame) -> str:
    """Return how many runs are behind correlations."""
    known = lines[lines.rho.notna()]
    if known.empty:
        return "n = 0"
    runs, networks = sorted(set(known.n)), known.networks.max()
    count = f"n = {runs[0]}" if len(runs) == 1 else f"n = {runs[0]} to {runs[-1]}"
    return count + (f" in {networks} groups" if networks > 1 else "")


def _disagreements(papers: pd.DataFrame) -> list:
    """Name the measures with intervals on different sides of 0 in two papers."""
    items = []
    for (quantity, target), group in papers.groupby(["quantity", "target"], sort=False):
        up, down = (
            [f"{line.scope} ({line.rho:+.2f}, n = {line.n})" for line in group[side].itertuples()]
            for side in (group.low > 0, group.high < 0)
        )
        if up and down:
            names = f"{QUANTITIES[quantity].label} and {QUANTITIES[target].label}"
            items.append(f"{names}: positive in {', '.join(up)}, negative in {', '.join(down)}.")
    if items:
        return ["Intervals on different sides of 0:", items]
    return [
        "Only one paper was measured." if papers.scope.nunique() < 2
        else "Nowhere: no measure has intervals on different sides of 0 in two papers."
    ]  # fmt: skip


def _alike(lines: pd.DataFrame) -> list:
    pairs = redundant(lines)
    if pairs.empty:
        return ["No two quantities rank runs alike, or the other way round, with a correlation beyond 0.9."]
    items = [
        f"{QUANTITIES[pair.first].label} and {QUANTITIES[pair.second].label}: {pair.rho:+.2f} (n = {pair.n})."
        for pair in pairs.itertuples()
    ]
    return ["Correlations beyond 0.9: on these runs, the second says little that the first does not.", items]


def _costs(measures: pd.DataFrame) -> Table | str:
    """Return the median relative standard error of each quantity, and the median time of each measure."""
    known = measures[measures.value.notna() & measures.quantity.isin([*TARGETS, *COMPARED])]
    if known.empty:
        return "Nothing was measured."
    rows = []
    for (measure, quantity), found in known.groupby(["measure", "quantity"], sort=False):
        medians = found[["seconds", "cpu_seconds"]].median()
        texts = (measure_title(measure), QUANTITIES[quantity].label, _relative_error(found),
                 f"{found.samples.median():.0f}", *map(rounded, medians))  # fmt: skip
        rows.append([Cell(text) for text in texts])
    heads = ["measure", "quantity", "relative standard error", "samples", "seconds", "CPU seconds"]
    return Table("Costs", heads, [False, False, True, True, True, True], rows, above=[COSTS])


def _relative_error(found: pd.DataFrame) -> str:
    errors = found.std_error.dropna()
    if errors.empty:
        return "not known"
    if (errors == 0).all():
        return "exact"
    relative = (found.std_error / found.value.abs())[found.value != 0].dropna()
    return "not defined" if relative.empty else f"{rounded(100 * relative.median())} %"


def _caveats(marked: pd.DataFrame, lines: pd.DataFrame, runs: pd.DataFrame) -> list[str]:
    known = marked[marked.rho.notna()]
    if marked.scope.nunique() == 2:  # The only paper's are those over all papers once more.
        known = known[known.scope == OVERALL]
    sizes, means = runs.parameters.astype(int), over_seeds(lines).test_accuracy
    spread = lines[lines.status == "finished"].groupby(["paper", "run"]).test_accuracy.std().median()
    size = f"{sizes.min():,}" + (f" to {sizes.max():,}" if sizes.nunique() > 1 else "")
    said = f"Networks: {runs.model.nunique()}, with {size} parameters; what ranks their runs need not do so for others."
    if means.notna().any():
        said += f" Runs have mean test accuracies from {means.min():.2f} to {means.max():.2f} %"
        said += "." if pd.isna(spread) else f", and a median standard deviation of {spread:.2f} points over seeds."
    if known.empty:
        return [said]
    small = " (more, since those of five runs are too narrow)" if (known.n == FEWEST).any() else ""
    many = (
        f"Intervals: {len(known)}, of which {int((known.mark != '').sum())} exclude 0; if no measure had to do with"
        f" generalization, about {0.05 * len(known):.0f} would by chance{small}. They share runs, so they are right or"
        " wrong together, and a single one that only just excludes 0 is no finding."
    )
    perfect = (known.low == known.high).any()
    few = (
        f"A correlation comes from {known.n.min()} to {known.n.max()} runs, and runs of a paper are variations of one"
        f" recipe.{' A perfect order has an interval without width, however few its runs.' if perfect else ''} A rank"
        " correlation says that two numbers order runs alike, not that one causes the other."
    )
    return [said, many, few]
