"""The papers' claims as checks on measured runs: holds, fails or undetermined.

A check is a chain of comparisons between sums of means over seeds:

    check      = sum, comparison, sum, { comparison, sum }
    sum        = term, { ("+" | "-"), term }        with spaces around the sign
    term       = a run's name | a number, [ "points" ]
    comparison = "<" | "<=" | ">" | ">="

A run's name stands for its mean final test accuracy in percent.
"""

import math
import re
from collections import Counter
from statistics import variance

import pandas as pd
from scipy import stats

from whysgd.errors import UserError

COMPARISON = re.compile(r"\s(<=|>=|<|>)\s")
LEVEL = 0.95


def parse_check(check: str) -> list[tuple[Counter, float]]:
    """The comparisons of a check, each as Σ coefficient · run + constant, claimed to be at least 0.

    Raises:
        UserError: the check does not follow the grammar.
    """
    parts = COMPARISON.split(f" {check} ")
    if len(parts) < 3:
        raise UserError(f"claims: check = {check!r}: has no comparison; allowed: <, <=, >, >=")
    differences = []
    for left, sign, right in zip(parts[::2], parts[1::2], parts[2::2], strict=False):
        larger, smaller = (right, left) if sign in ("<", "<=") else (left, right)
        runs, constant = _sum(larger, check)
        minus, offset = _sum(smaller, check)
        for name, count in minus.items():
            runs[name] -= count
        differences.append((runs, constant - offset))
    return differences


def _sum(text: str, check: str) -> tuple[Counter, float]:
    words = text.split()
    runs, constant, sign, expected = Counter(), 0.0, 1, True
    for index, word in enumerate(words):
        if word in ("+", "-") and not expected:
            sign, expected = (1 if word == "+" else -1), True
        elif word == "points" and index and _number(words[index - 1]) is not None:
            continue
        elif expected and (number := _number(word)) is not None:
            constant, expected = constant + sign * number, False
        elif expected and re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]*", word):
            runs[word] += sign
            expected = False
        else:
            raise UserError(f"claims: check = {check!r}: not understood at {word!r}")
    if expected:
        raise UserError(f"claims: check = {check!r}: a run or a number is missing")
    return runs, constant


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None


def evaluate_check(check: str, values: dict[str, list[float]]) -> dict:
    """Verdict of one check.

    Each comparison claims that a difference d of means is at least a threshold. Its 95 % interval is
    d ± t·s with s² = Σ c² s_r²/n_r and the Welch–Satterthwaite degrees of freedom. The comparison holds if
    the whole interval is at or above the threshold, fails if it is below, and is undetermined if the
    interval straddles it or a run has fewer than two seeds. A chain holds if all its comparisons hold and
    fails if one fails.

    Args:
        check: see the module.
        values: accuracies over seeds, by run.

    Returns:
        `verdict` and `evidence`, a sentence with each difference and its interval.
    """
    verdicts, evidence = [], []
    for runs, constant in parse_check(check):
        verdict, sentence = _compare(runs, constant, values)
        verdicts.append(verdict)
        evidence.append(sentence)
    verdict = "fails" if "fails" in verdicts else "undetermined" if "undetermined" in verdicts else "holds"
    return {"verdict": verdict, "evidence": "; ".join(evidence)}


def _compare(runs: Counter, constant: float, values: dict) -> tuple[str, str]:
    """Verdict on Σ c · mean ≥ −constant, and the sentence that shows it."""
    runs = {name: count for name, count in runs.items() if count}
    if missing := [run for run in runs if not values.get(run)]:
        return "undetermined", f"{', '.join(missing)} not run"
    name = " ".join(f"{'+' if c > 0 else '−'} {run}" for run, c in runs.items()).removeprefix("+ ")
    difference = sum(c * math.fsum(values[r]) / len(values[r]) for r, c in runs.items())
    if min(len(values[run]) for run in runs) < 2:
        return "undetermined", f"{name} = {difference:+.2f}, claimed ≥ {-constant:g} (one seed: no interval)"
    parts = [c**2 * variance(values[r]) / len(values[r]) for r, c in runs.items()]
    freedom = [len(values[r]) - 1 for r in runs]
    spread = sum(parts)
    if spread == 0:
        half = 0.0
    else:
        degrees = spread**2 / sum(p**2 / f for p, f in zip(parts, freedom, strict=True))
        half = float(stats.t.ppf(0.5 + LEVEL / 2, degrees)) * spread**0.5
    low, high = difference - half, difference + half
    verdict = "holds" if low >= -constant else "fails" if high < -constant else "undetermined"
    return verdict, f"{name} = {difference:+.2f} [{low:+.2f}, {high:+.2f}], claimed ≥ {-constant:g}"


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
