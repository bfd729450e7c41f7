"""The runs behind a paper's picture of descent on a loss with two weights; `whysgd.training.two_weights` makes them.

This module never imports torch; the workflow reads it at parse time.
"""

from collections.abc import Mapping

from whysgd.errors import UserError
from whysgd.study.spec import FULL_BATCH, RunSpec

COLUMNS = ("method", "seed", "step", "w1", "w2", "loss", "gradient_norm", "sharpness")


def specs_of(settings: Mapping) -> dict[str, list[RunSpec]]:
    """The runs of each method: one, or for a method that draws blocks, one for each seed.

    Args:
        settings: `trajectories` of a paper, validated.

    Raises:
        ValueError: settings that no run can have.
    """
    shared = {
        "paper": "none", "scale": "none", "dataset": "points", "model": "two_weights",
        "schedule": {"unit": "step", "warmup": 0.0, "decay": "constant"},
        **{key: settings[key] for key in ("block", "lr", "steps")},
    }  # fmt: skip
    specs = {}
    for name, method in settings["methods"].items():
        own = {key: value for key, value in method.items() if key not in ("label", "macro_batch")}
        draws = method["macro_batch"] != FULL_BATCH
        own |= {"macro_batch": settings["block"] if draws else FULL_BATCH, "shuffle": draws, "run": name}
        specs[name] = [
            RunSpec.from_dict({**shared, **own, "seed": seed}) for seed in range(settings["seeds"] if draws else 1)
        ]
    return specs


def check_trajectories(settings: Mapping | None, file: str) -> None:
    """Refuse what cannot run, before anything runs.

    Raises:
        UserError: the line names file and key.
    """
    if settings is None:
        return
    where = f"{file}: trajectories"
    points, block = len(settings["points"]), settings["block"]
    if points % block:
        raise UserError(f"{where}.block = {block}: must divide {points}, the points, into blocks of equal size")
    if not any(x for x, _ in settings["points"]):
        raise UserError(f"{where}.points = {settings['points']!r}: an x must not be 0")
    try:
        specs_of(settings)
    except ValueError as error:
        raise UserError(f"{where}.methods: {error}") from None
