"""The papers' claims on measured runs: holds, fails or undetermined."""

import math
from statistics import variance

import pandas as pd
from scipy import stats

from whysgd.checks import Comparison, parse_check

LEVEL = 0.95


def evaluate_check(check: str, values: dict[str, list[float]]) -> dict:
    """Verdict of one check.

    Each comparison claims that a difference d of means is at least a threshold. Its 95 % interval is
    d ± t·s with s² = Σ c² s_r²/n_r and the Welch–Satterthwaite degrees of freedom. The comparison holds if
    the whole interval is at or above the threshold, fails if it is below, and is undetermined if the
    interval straddles it or a run has fewer than two seeds. A check holds if all its comparisons hold and
    fails if one fails. If a run is missing, the evidence is the list of those that are.

    Args:
        check: see `whysgd.checks`.
        values: accuracies over seeds, by run.

    Returns:
        `verdict` and `evidence`, a sentence with each difference and its interval.
    """
    comparisons, verdicts, evidence = parse_check(check), [], []
    missing = dict.fromkeys(run for c in comparisons for run in c.runs if not values.get(run))
    if missing:
        return {"verdict": "undetermined", "evidence": f"not run: {', '.join(missing)}"}
    for comparison in comparisons:
        verdict, sentence = _compare(comparison, values)
        verdicts.append(verdict)
        evidence.append(sentence)
    verdict = "fails" if "fails" in verdicts else "undetermined" if "undetermined" in verdicts else "holds"
    return {"verdict": verdict, "evidence": "; ".join(evidence)}


def _compare(comparison: Comparison, values: dict) -> tuple[str, str]:
    runs, needed = comparison.runs, comparison.needed
    name = " ".join(f"{'+' if c > 0 else '-'} {run}" for run, c in runs.items()).removeprefix("+ ")
    claimed = f"claimed {'>' if comparison.strict else '≥'} {needed:g}"
    difference = sum(c * math.fsum(values[r]) / len(values[r]) for r, c in runs.items())
    if min(len(values[run]) for run in runs) < 2:
        return "undetermined", f"{name} = {difference:+.2f}, {claimed} (one seed: no interval)"
    parts = [c**2 * variance(values[r]) / len(values[r]) for r, c in runs.items()]
    freedom = [len(values[r]) - 1 for r in runs]
    spread = sum(parts)
    if spread == 0:
        half = 0.0
    else:
        degrees = spread**2 / sum(p**2 / f for p, f in zip(parts, freedom, strict=True))
        half = float(stats.t.ppf(0.5 + LEVEL / 2, degrees)) * spread**0.5
    low, high = difference - half, difference + half
    holds, fails = (low > needed, high <= needed) if comparison.strict else (low >= needed, high < needed)
    verdict = "holds" if holds else "fails" if fails else "undetermined"
    return verdict, f"{name} = {difference:+.2f} [{low:+.2f}, {high:+.2f}], {claimed}"


def evaluate_claims(claims: list[dict], paper: str, runs: pd.DataFrame) -> pd.DataFrame:
    """One line for each claim: id, claim, check, verdict, evidence."""
    mine = runs[runs.paper == paper]
    values = {run: group.test_accuracy.astype(float).tolist() for run, group in mine.groupby("run")}
    return pd.DataFrame([{**claim, **evaluate_check(claim["check"], values)} for claim in claims],
                        columns=["id", "claim", "check", "verdict", "evidence"])  # fmt: skip


def claims_to_markdown(claims: pd.DataFrame, measured: str) -> str:
    """The claims with their verdicts; differences in points with 95 % intervals."""
    body = claims.to_markdown(index=False, disable_numparse=True)
    return f"Measured: {measured}. Differences in points, with 95 % intervals.\n\n{body}\n"
