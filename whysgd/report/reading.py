"""One page that says in words what the measures show: every sentence is chosen by the numbers."""

import pandas as pd

from whysgd.measures.catalog import MEASURES, QUANTITIES
from whysgd.report.correlations import (
    FEWEST,
    OVERALL,
    RULERS,
    TARGETS,
    expected_sign,
    redundant,
)
from whysgd.report.frame import KEYS
from whysgd.report.measures import measure_title, over_seeds, rounded, wide

TITLE = "What the measures say"


def write_reading(correlations: pd.DataFrame, measures: pd.DataFrame, runs: pd.DataFrame, setting: str) -> str:
    """The page as Markdown: headings, paragraphs, lists and tables.

    Args:
        correlations: the frame of `whysgd.report.correlations.correlate`.
        measures, runs: the tidy frames that it comes from.
        setting: on what was measured.
    """
    lines = wide(measures, runs)
    judged = correlations.assign(sign=_signs(correlations))
    parts = [f"# {TITLE}", f"Measured: {setting}.", _counts(measures, runs)]
    parts += [part for target in TARGETS for part in _target(judged, target)]
    parts += ["## Where papers disagree", *_disagreements(judged)]
    parts += ["## Measures that rank runs alike", *_alike(lines)]
    parts += ["## Uncertainty and cost", *_costs(measures)]
    parts += ["## How far to trust this", *_caveats(judged, lines, runs)]
    return "\n\n".join(parts) + "\n"


def _signs(correlations: pd.DataFrame) -> pd.Series:
    """On which side of 0 an interval lies, 1 or -1; 0 if on both, and none where there is no correlation."""
    signs = (correlations.low > 0).astype(int) - (correlations.high < 0).astype(int)
    return signs.where(correlations.rho.notna())


def _counts(measures: pd.DataFrame, runs: pd.DataFrame) -> str:
    seeds = runs.groupby(["paper", "run"]).seed.nunique()
    each = f"{seeds.min()}" if seeds.min() == seeds.max() else f"{seeds.min()} to {seeds.max()}"
    diverged = int((runs.status == "diverged").sum())
    lost = f" {diverged} of them diverged and {_have(diverged)} no numbers." if diverged else " None diverged."
    known = measures[measures.value.notna()]
    missing = {
        name: len(runs) - diverged - len(known[known.measure == name][KEYS].drop_duplicates())
        for name in MEASURES
        if name in set(measures.measure)
    }
    absent = [f"{measure_title(name)} ({count})" for name, count in missing.items() if count > 0]
    gaps = f" Trained networks without a measure: {', '.join(absent)}." if absent else ""
    trained = f"{len(seeds)} {_plural('run', len(seeds))} of {_papers(runs.paper.nunique())}"
    taken, reported = known.measure.nunique(), known.quantity.nunique()
    compared = sum(name in set(known.quantity) for name in RULERS)
    return (
        f"{trained}, {each} {_plural('seed', seeds.max())} each: {len(runs)} trained networks.{lost}{gaps}"
        f" They were measured with {taken} {_plural('measure', taken)}, which {_plural('report', taken, '', 's')}"
        f" {reported} {_plural('quantit', reported, 'ies', 'y')}. {compared} of them"
        f" {'is' if compared == 1 else 'are'} compared with test accuracy and with two gaps by Spearman's rank"
        " correlation over runs (means over seeds), among runs of the same paper, data set and network; in brackets are"
        " 95 % intervals."
    )


def _target(judged: pd.DataFrame, target: str) -> list[str]:
    """What ranks runs as one of the targets does."""
    mine = judged[judged.target == target]
    overall = mine[mine.scope == OVERALL]
    title = f"## What ranks runs by {QUANTITIES[target].label}"
    known = overall[overall.rho.notna()]
    if known.empty:
        return [title, f"No correlation: no network has {FEWEST} runs with these numbers."]
    better = "higher" if target == "test_accuracy" else "smaller"
    head = (
        f"Over all papers ({_sizes(known)}), {int((known.sign != 0).sum())} of {len(known)} intervals exclude 0."
        f" Expected is that flatter, or quieter, minima have a {better} {QUANTITIES[target].label}."
    )
    items = _sides(overall, known, full=True)
    papers = [scope for scope in mine.scope.unique() if scope != OVERALL]
    for paper in papers if len(papers) > 1 else []:
        part = mine[mine.scope == paper]
        there = part[part.rho.notna()]
        if there.empty:
            items.append(f"{paper}: no correlation, since no network has {FEWEST} runs with these numbers.")
        else:
            items.append(f"{paper} ({_sizes(there)}): {'; '.join(_sides(part, there, full=False))}.")
    return [title, head, _list(items)]


def _sides(part: pd.DataFrame, known: pd.DataFrame, full: bool) -> list[str]:
    """The quantities on the expected side, on the other one, and on none; if not in full, these only counted."""
    sides = {"as expected": [], "the other way round": [], "with no side expected": [], "undetermined": []}
    for line in known.sort_values("rho", key=lambda rho: -rho.abs(), kind="stable").itertuples():
        expected, name = expected_sign(line.quantity, line.target), QUANTITIES[line.quantity].label
        interval = f"{name} {line.rho:+.2f}" + (f" [{line.low:+.2f}, {line.high:+.2f}]" if full else "")
        if line.sign == 0:
            sides["undetermined"].append(name)
        elif expected == 0:
            sides["with no side expected"].append(interval)
        else:
            sides["as expected" if line.sign == expected else "the other way round"].append(interval)
    if not full:
        undetermined = sides.pop("undetermined")
        said = [f"{side}: {', '.join(names)}" for side, names in sides.items() if names]
        return [*said, f"{len(undetermined)} of {len(known)} undetermined"]
    lost = [QUANTITIES[name].label for name in part[part.rho.isna()].quantity]
    said = {
        "As expected": sides["as expected"] or ["none"],
        "The other way round": sides["the other way round"] or ["none"],
        "With an interval that excludes 0, but no side expected": sides["with no side expected"],
        "Undetermined, since the interval includes 0": sides["undetermined"],
        f"Without a correlation, since no network has {FEWEST} runs with different numbers": lost,
    }
    return [f"{side}: {', '.join(names)}." for side, names in said.items() if names]


def _disagreements(judged: pd.DataFrame) -> list[str]:
    """Opposite signs in two papers, both clear."""
    items, papers = [], judged[judged.scope != OVERALL]
    if papers.scope.nunique() < 2:
        return ["Only one paper was measured."]
    for (quantity, target), group in papers.groupby(["quantity", "target"], sort=False):
        up, down = (_cited(group[group.sign == sign]) for sign in (1, -1))
        if up and down:
            names = f"{QUANTITIES[quantity].label} and {QUANTITIES[target].label}"
            items.append(f"{names}: positive in {', '.join(up)}, negative in {', '.join(down)}.")
    if not items:
        return ["Nowhere: no measure has intervals on different sides of 0 in two papers."]
    return ["Intervals on different sides of 0:", _list(items)]


def _cited(lines: pd.DataFrame) -> list[str]:
    return [f"{line.scope} ({line.rho:+.2f}, n = {line.n})" for line in lines.itertuples()]


def _alike(lines: pd.DataFrame) -> list[str]:
    pairs = redundant(lines)
    if pairs.empty:
        return ["No two quantities rank runs alike, or the other way round, with a correlation beyond 0.9."]
    items = [
        f"{QUANTITIES[pair.first].label} and {QUANTITIES[pair.second].label}: {pair.rho:+.2f} (n = {pair.n})."
        for pair in pairs.itertuples()
    ]
    return ["Correlations beyond 0.9: on these runs, the second says little that the first does not.", _list(items)]


def _costs(measures: pd.DataFrame) -> list[str]:
    """Of each quantity the median relative standard error, and of each measure the median time."""
    known = measures[measures.value.notna()]
    if known.empty:
        return ["Nothing was measured."]
    rows = []
    for measure in (name for name in MEASURES if (known.measure == name).any()):
        mine = known[known.measure == measure]
        once = mine.drop_duplicates(KEYS)
        for quantity in (name for name in (*TARGETS, *RULERS) if (mine.quantity == name).any()):
            found = mine[mine.quantity == quantity]
            rows.append({
                "measure": measure_title(measure), "quantity": QUANTITIES[quantity].label,
                "relative standard error": _relative_error(found), "samples": f"{found.samples.median():.0f}",
                "seconds": rounded(once.seconds.median()), "CPU seconds": rounded(once.cpu_seconds.median()),
            })  # fmt: skip
    align = ("left", "left", "right", "right", "right", "right")
    table = pd.DataFrame(rows).to_markdown(index=False, colalign=align, disable_numparse=True)
    head = (
        "Medians over trained networks. The standard error is that of measuring one network, not the spread over seeds,"
        " and of an eigenvalue the residual, which bounds its error; seconds are those of the whole measure."
    )
    return [head, table]


def _relative_error(found: pd.DataFrame) -> str:
    errors = found.std_error.dropna()
    if errors.empty:
        return "not known"
    if (errors == 0).all():
        return "exact"
    relative = (found.std_error / found.value.abs())[found.value != 0].dropna()
    return "not defined" if relative.empty else f"{rounded(100 * relative.median())} %"


def _caveats(judged: pd.DataFrame, lines: pd.DataFrame, runs: pd.DataFrame) -> list[str]:
    known = judged[judged.rho.notna()]
    if judged.scope.nunique() == 2:  # The only paper's are those over all papers once more.
        known = known[known.scope == OVERALL]
    sizes = sorted({int(size) for size in runs.parameters})
    size = f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}"
    models = sorted(map(str, runs.model.unique()))
    network = (
        f"The {_plural('network', len(models))} {', '.join(models)} {'has' if len(models) == 1 else 'have'} {size}"
        f" parameters; what ranks runs of {'this one' if len(models) == 1 else 'these'} need not do so for others."
    )
    means = over_seeds(lines).test_accuracy.dropna()
    stds = lines[lines.status == "finished"].groupby(["paper", "run"]).test_accuracy.std().dropna()
    spread = ""
    if len(means):
        spread = f" Runs have mean test accuracies from {means.min():.2f} to {means.max():.2f} %"
        spread += f", and a median standard deviation of {stds.median():.2f} points over seeds." if len(stds) else "."
    if known.empty:
        return [network + spread]
    clear = int((known.sign != 0).sum())
    chance = 0.05 * len(known)
    small = " (more, since those of five runs are too narrow)" if (known.n == FEWEST).any() else ""
    many = (
        f"Of {len(known)} intervals, {clear} {_plural('exclude', clear, '', 's')} 0; if no measure had to do with"
        f" generalization, about {chance:.0f} would by chance{small}. They share runs, so they are right or wrong"
        " together, and a single one that only just excludes 0 is no finding."
    )
    perfect = (
        " A perfect order has an interval without width, however few its runs."
        if (known.low == known.high).any()
        else ""
    )
    few = (
        f"A correlation comes from {known.n.min()} to {known.n.max()} runs, and runs of a paper are variations of one"
        f" recipe.{perfect} A rank correlation says that two numbers order runs alike, not that one causes the other."
    )
    return [network + spread, many, few]


def _sizes(known: pd.DataFrame) -> str:
    """How many runs are behind correlations."""
    runs, networks = sorted(set(known.n)), known.networks.max()
    count = f"n = {runs[0]}" if len(runs) == 1 else f"n = {runs[0]} to {runs[-1]}"
    return f"{count} runs" + (f" in {networks} groups of one paper, data set and network" if networks > 1 else "")


def _plural(word: str, count: int, many: str = "s", one: str = "") -> str:
    return word + (one if count == 1 else many)


def _have(count: int) -> str:
    return "has" if count == 1 else "have"


def _papers(count: int) -> str:
    return f"{count} {_plural('paper', count)}"


def _list(items: list[str]) -> str:
    return "\n".join(f"- {item}" for item in items)
