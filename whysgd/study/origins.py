"""Where the settings of a run come from: the paper's file, a rule of the scale, the configuration, or a default."""

import json
import math
from collections.abc import Iterable, Mapping

from whysgd.study.config import PAPERS
from whysgd.study.papers import load_paper, scale_of, scaled_spec
from whysgd.study.settings import flat, is_real
from whysgd.study.spec import FULL_BATCH
from whysgd.study.validation import read_yaml

# The rules of a scale that change numbers: their sign, what a note calls the settings, and which these are.
_RULES = {
    "lr_factor": ("×", "lr", ("lr",)),
    "micro_batch_divisor": ("÷", "micro-batch", ("micro_batch", "batch", "probe.micro_batch", "penalty.sample")),
    "time_divisor": ("÷", "times", ("epochs", "steps", "select_every", "stop_every", "probe.every", "schedule.warmup",
                                    "schedule.horizon", "schedule.milestones")),
    "strength_divisor": ("÷", "λ", ("penalty.strength",)),
    "copies_divisor": ("÷", "copies", ("store.copies",)),
}  # fmt: skip
_INVERSE = {"×": "÷", "÷": "×"}
_RULE_OF = {key: rule for rule, (_, _, keys) in _RULES.items() for key in keys}
_REPLACED = {"dataset": "datasets", "normalize": "datasets", "model": "models", "augment": "augmentation",
             "store": "augmentation"}  # fmt: skip


def scale_note(config: Mapping, paper: str, runs: Iterable[str]) -> str:
    """Return what the scale's rules change in any of these runs of a paper: `lr ×4, micro-batch ÷8, times ÷10`."""
    scale, known, runs = scale_of(config, paper), load_paper(paper)["runs"], list(runs)
    settings = [flat(known[run]) for run in runs]
    found = {
        rule: f"{noted} {sign}{scale[rule]:g}" if scale[rule] >= 1 else f"{noted} {_INVERSE[sign]}{1 / scale[rule]:g}"
        for rule, (sign, noted, keys) in _RULES.items()
        if scale[rule] != 1 and any(is_real(one.get(key)) for one in settings for key in keys)
    }
    if scale["batch_divisor"] != 1 and any(_has_several(one) for one in settings):
        found["batch_divisor"] = f"micro-batches of a step ÷{scale['batch_divisor']:g}"
    if "micro_batch_divisor" in found and any(known[run]["batch"] != FULL_BATCH for run in runs):
        but = " unless full batch" if any(known[run]["batch"] == FULL_BATCH for run in runs) else ""
        factor, divided = found.pop("lr_factor", None), f"÷{scale['micro_batch_divisor']:g}{but}"
        lr = f"{factor} ({divided})" if factor and but else f"{factor or 'lr'} {divided}"
        found = {"lr_factor": lr, **found}
    return ", ".join(found.values())


def settings_text(config: Mapping, paper: str, run: str) -> str:
    """Return a line for each setting of a run at the configured scale: its value, and where that comes from.

    A rule of the scale is shown as `lr 0.4 = 0.1 (papers/geiping2022.yaml: defaults) × 4 (lr_factor)`.

    Raises:
        UserError: as `whysgd.study.papers.scaled_spec`.
    """
    spec = scaled_spec(config, paper, run, 0).to_dict()
    values = flat({key: value for key, value in spec.items() if key not in ("paper", "run", "scale", "seed")})
    published, raw = load_paper(paper)["runs"], read_yaml(PAPERS / f"{paper}.yaml")
    given = flat(published[run])
    if times := published[run]["schedule"].get("milestones"):
        given["schedule.milestones"] = ", ".join(str(float(time)) for time in times)  # as the specification has them
    own = config["scales"][config["scale"]]["rules_of"].get(paper, {})

    def named(rule: str) -> str:
        return f"rules_of.{paper}.{rule}" if rule in own else rule

    lines = []
    for key, value in values.items():
        top = key.partition(".")[0]
        where = f"papers/{paper}.yaml: {_place(raw, published, run, top)}"
        before = given.get(key, ", ".join(str(one) for name, one in given.items() if name.startswith(f"{key}.")))
        rule = _RULE_OF.get(key) or _REPLACED.get(top, "rules of the scale")
        factor, sign, rule = scale_of(config, paper).get(rule), _RULES.get(rule, ("",))[0], named(rule)
        if before == "":
            origin = "(config: evaluations)" if key == "evaluations" else "(default)"
            origin = "(config: precision)" if key == "precision" and value == config["precision"] else origin
        elif before == value:
            origin = f"({where})"
        elif before == "micro_batch":
            origin = f"= micro_batch ({where})"
        elif key == "schedule.warmup" and not value:
            origin = f"({rule}: {before} ({where}) would be shorter than a unit)"
        elif sign and is_real(before):
            exact = before * factor if sign == "×" else before / factor
            rule = f"{sign} {factor:g} ({rule})"
            second, divisor = _second_rule(key, published[run], spec, scale_of(config, paper))
            if divisor != 1:
                exact, rule = exact / divisor, f"{rule} ÷ {divisor:g} ({named(second)})"
            origin = f"{'=' if math.isclose(value, exact) else '≈'} {before} ({where}) {rule}"
        else:
            origin = f"({rule}) in place of {_shown(before)} ({where})"
        lines.append(f"{key} {_shown(value)} {origin}")
    return "\n".join(lines)


def _second_rule(key: str, published: Mapping, scaled: Mapping, scale: Mapping) -> tuple[str, float]:
    """Return the rule that divides a setting once more, and by what; 1 if none does."""
    if key == "lr" and published["batch"] != FULL_BATCH:
        return "micro_batch_divisor", scale["micro_batch_divisor"]
    if key not in ("batch", "micro_batch") or not _has_several(published):
        return "", 1
    # Fewer micro-batches make the batch smaller, and a micro-batch only where they cannot be as few.
    counts = [one["batch"] / one["micro_batch"] for one in (scaled, published)]
    return "batch_divisor", scale["batch_divisor"] * (1 if key == "batch" else counts[0] / counts[1])


def _has_several(settings: Mapping) -> bool:
    """Return whether a step has several micro-batches and not all."""
    return is_real(settings["batch"]) and settings["batch"] > settings["micro_batch"]


def _shown(value) -> str:
    """A value as papers/*.yaml has it; – if it is empty."""
    return json.dumps(value, ensure_ascii=False).strip('"') or "–"


def _place(raw: Mapping, published: Mapping, run: str, key: str) -> str:
    """The part of a paper's file that gives a run a setting."""
    runs = raw.get("runs", {})
    if run not in runs:
        row = run.rpartition(".")[0]
        same = row in runs and published[row].get(key) == published[run].get(key)
        return _place(raw, published, row, key) if same else "tables"
    if key in runs[run] or "like" not in runs[run]:
        return f"runs.{run}" if key in runs[run] else "defaults"
    return _place(raw, published, runs[run]["like"], key)
