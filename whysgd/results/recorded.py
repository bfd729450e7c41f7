"""Results from records in place of training: which there are, and whether today's code would give them.

The workflow reads this at parse time, so it imports no library of numbers.
"""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from whysgd.errors import UserError
from whysgd.files import read_json, sha256_of
from whysgd.results.paths import RECORDS
from whysgd.study.codedigest import measuring_code, training_code
from whysgd.study.papers import scaled_spec, tables_at
from whysgd.study.spec import RunSpec
from whysgd.study.validation import read_yaml

# Which digests of code gave the same numbers as later ones, and how that was seen.
SAME_RESULTS = "same_results.yaml"
# What a record may have beside metrics, measures and history; figures are drawn of it. Of measures their names count.
EXTRAS = ("noise", "layers", "noise_norms", "line", "plane")


def parts_of(record: Mapping) -> list[str]:
    """Return the names of a record's measures and of what it has of `EXTRAS`."""
    extras = [name for name in EXTRAS if name in record or name in record.get("landscapes", {})]
    return [*extras, *record.get("measures", {})]


def with_records(config: Mapping, root: Path = RECORDS) -> dict:
    """Return the configuration with those of its papers, runs and seeds that have records below `root`.

    `tables_at` and `seeds_of` go by its `recorded`, {paper: {run: {seed: (file, its `parts_of`)}}}; its `left_out` is
    lines on what is not shown: other papers, and records of other settings than the run has now.

    Raises:
        UserError: a record is damaged, or there is none.
    """
    recorded: dict[str, dict] = {}
    other = []
    for paper in config["papers"]:
        recorded[paper] = {}
        rows = [row for table in tables_at(config, paper).values() for row in table["rows"]]
        for run in dict.fromkeys(row["run"] for row in rows if row["planned"]):
            found = {}
            files = (root / config["scale"] / paper / run).glob("seed-*.json")
            for seed, file in sorted((_seed_of(file), file) for file in files):
                if config["seeds"] and seed not in config["seeds"]:
                    continue
                record = read_json(file)
                try:
                    made_with = RunSpec.from_dict(record["metrics"]["settings"])
                    parts = parts_of(record)
                except (KeyError, TypeError, ValueError) as error:
                    raise UserError(f"{file}: not a record ({error!r})") from None
                if made_with == scaled_spec(config, paper, run, seed):
                    found[seed] = (str(file), parts)
                else:
                    other.append(str(file))
            recorded[paper] |= {run: found} if found else {}
    if not any(recorded.values()):
        why = f" with seeds {config['seeds']}" if config["seeds"] else ""
        why += f"; {len(other)} are of other settings" if other else ""
        raise UserError(f"from = records: {root / config['scale']}: no record of {', '.join(config['papers'])}{why}")
    without = [paper for paper in config["papers"] if not recorded[paper]]
    left_out = [f"no record of {', '.join(without)} at this scale: left out"] if without else []
    if other:
        why = "are of other settings than their runs have now, and left out"
        left_out.append(f"{len(other)} records {why}: {other[0]}")
    papers = [paper for paper in config["papers"] if recorded[paper]]
    return {**config, "papers": papers, "recorded": recorded, "left_out": left_out}


def _seed_of(file: Path) -> int:
    number = file.stem.removeprefix("seed-")
    if not number.isdecimal():
        raise UserError(f"{file}: the file of a record must be named seed-<number>.json")
    return int(number)


def same_results_digest(root: Path = RECORDS) -> str | None:
    """Return the digest of the list of code that gave the same results as today's, if there is one."""
    file = root / SAME_RESULTS
    return sha256_of(file) if file.exists() else None


@cache
def _equal_to(root: Path) -> dict[str, str]:
    """{digest: a later one of the same results}."""
    file = root / SAME_RESULTS
    entries = (read_yaml(file) or {}) if file.is_file() else {}
    try:
        equal = {digest: entry["same_as"] for digest, entry in entries.items() if entry["seen"]}
    except (AttributeError, KeyError, TypeError) as error:
        raise UserError(f"{file}: each digest needs same_as and seen ({error!r})") from None
    # Digits alone are a number to YAML.
    every = (one for pair in equal.items() for one in pair)
    if odd := [one for one in every if not (isinstance(one, str) and re.fullmatch("[0-9a-f]{16}", one))]:
        raise UserError(f"{file}: {odd[0]!r}: must be a digest of 16 letters and digits, in quotes")
    return equal


def is_current(digest: str, today: str, root: Path = RECORDS) -> bool:
    """Return whether the code of a record's digest gives today's results: it is today's, or known to give the same."""
    equal, seen = _equal_to(root), set()
    while digest != today and digest in equal and digest not in seen:
        seen.add(digest)
        digest = equal[digest]
    return digest == today


def older_training(metrics: Mapping, root: Path = RECORDS) -> bool:
    """Return whether a run was trained by code that may give other results than today's."""
    return not is_current(metrics["code_digest"], training_code(RunSpec.from_dict(metrics["settings"])), root)


def older_measure(result: Mapping, metrics: Mapping, root: Path = RECORDS) -> bool:
    """Return whether a measure was taken of a run by code that may give other results than today's."""
    today = measuring_code(RunSpec.from_dict(metrics["settings"]), result["measure"])
    return not is_current(result["code_digest"], today, root)
