"""What a scale changes in the settings of a run, and the settings in which two runs differ."""

from collections.abc import Iterable, Mapping

from tabulate import tabulate

from whysgd.results.metrics import KEYS
from whysgd.study.papers import load_paper, scale_of, scaled_spec
from whysgd.study.settings import flat, is_real
from whysgd.study.spec import FULL_BATCH

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


def scale_note(config: Mapping, paper: str, runs: Iterable[str]) -> str:
    """Return what the scale's rules change in any of these runs of a paper: `lr ×4, micro-batch ÷8, times ÷10`."""
    scale, known, runs = scale_of(config, paper), load_paper(paper)["runs"], list(runs)
    settings = [flat(known[run]) for run in runs]
    found = {
        rule: f"{noted} {sign}{scale[rule]:g}" if scale[rule] >= 1 else f"{noted} {_INVERSE[sign]}{1 / scale[rule]:g}"
        for rule, (sign, noted, keys) in _RULES.items()
        if scale[rule] != 1 and any(is_real(one.get(key)) for one in settings for key in keys)
    }
    several = (one for one in settings if is_real(one["batch"]) and one["batch"] > one["micro_batch"])
    if scale["batch_divisor"] != 1 and any(several):
        found["batch_divisor"] = f"micro-batches of a step ÷{scale['batch_divisor']:g}"
    if "micro_batch_divisor" in found and any(known[run]["batch"] != FULL_BATCH for run in runs):
        but = " unless full batch" if any(known[run]["batch"] == FULL_BATCH for run in runs) else ""
        factor, divided = found.pop("lr_factor", None), f"÷{scale['micro_batch_divisor']:g}{but}"
        lr = f"{factor} ({divided})" if factor and but else f"{factor or 'lr'} {divided}"
        found = {"lr_factor": lr, **found}
    return ", ".join(found.values())


def different_settings(left: Mapping, right: Mapping) -> dict[str, tuple[str, str]]:
    """Return by each setting in which two specifications, as dicts, differ, both values as texts; – stands for none."""
    one, other = flat(left), flat(right)
    keys = [key for key in one | other if key not in KEYS and one.get(key) != other.get(key)]
    return {key: (_shown(one.get(key)), _shown(other.get(key))) for key in keys}


def _shown(value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return str(value).removesuffix(".0")
    return "–" if value in (None, "") else str(value)


def settings_at_paper(config: Mapping, paper: str, run: str) -> dict[str, str]:
    """Return those settings of a run that the configured scale changes, as they are at the scale paper."""
    here, there = (scaled_spec({**config, "scale": scale}, paper, run, 0) for scale in (config["scale"], "paper"))
    return {key: value for key, (_, value) in different_settings(here.to_dict(), there.to_dict()).items()}


def settings_text(config: Mapping, paper: str, run: str) -> str:
    """Return a table of all settings of a run at the configured scale, and at the scale paper where they differ.

    Below it are the scale's rules.

    Raises:
        UserError: as `whysgd.study.papers.scaled_spec`.
    """
    here = flat(scaled_spec(config, paper, run, 0).to_dict())
    at_paper = settings_at_paper(config, paper, run)
    # A setting that has parts at the scale paper alone is told part by part.
    parts = {key: [part for part in at_paper if part.startswith(f"{key}.")] for key in here}
    keys = [part for key in here if key not in KEYS for part in parts[key] or [key]]
    lines = [(key, _shown(here.get(key)), at_paper.get(key, "")) for key in keys]
    heads = ["setting", f"scale {config['scale']}", "at the scale paper, where it differs"]
    table = tabulate(lines, heads, disable_numparse=True)
    note = scale_note(config, paper, [run])
    return f"{table}\n\nRules of the scale: {note}" if note else table
