"""The runs behind a paper's picture of descent on a loss with two weights; `whysgd.training.two_weights` makes them.

This module never imports torch; the workflow reads it at parse time.
"""

from collections.abc import Mapping

from whysgd.errors import UserError
from whysgd.study.spec import FULL_BATCH, RunSpec

COLUMNS = ("method", "seed", "step", "w1", "w2", "loss", "gradient_norm", "sharpness")


def specs_of(settings: Mapping) -> dict[str, list[RunSpec]]:
    """Return the runs of each method of a paper's `trajectories`: one, or if it draws micro-batches, one for each seed.

    Raises:
        ValueError: settings that no run can have.
    """
    shared = {
        "paper": "none", "scale": "none", "dataset": "points", "model": "two_weights",
        "schedule": {"unit": "step", "warmup": 0.0, "decay": "constant"},
        **{key: settings[key] for key in ("micro_batch", "lr", "steps")},
    }  # fmt: skip
    specs = {}
    for name, method in settings["methods"].items():
        own = {key: value for key, value in method.items() if key not in ("label", "batch")}
        draws = method["batch"] != FULL_BATCH
        own |= {"batch": settings["micro_batch"] if draws else FULL_BATCH, "shuffle": draws, "run": name}
        specs[name] = [
            RunSpec.from_dict({**shared, **own, "seed": seed}) for seed in range(settings["seeds"] if draws else 1)
        ]
    return specs


def check_trajectories(settings: Mapping | None, file: str) -> None:
    """Refuse what cannot run, before anything runs; the error names file and key."""
    if settings is None:
        return
    where = f"{file}: trajectories"
    points, size = len(settings["points"]), settings["micro_batch"]
    if points % size:
        needed = f"must divide {points}, the points, into micro-batches of equal size"
        raise UserError(f"{where}.micro_batch = {size}: {needed}")
    if not any(x for x, _ in settings["points"]):
        raise UserError(f"{where}.points = {settings['points']!r}: an x must not be 0")
    try:
        specs_of(settings)
    except ValueError as error:
        raise UserError(f"{where}.methods: {error}") from None
