"""The measures that every run gets, and what each reports; the workflow reads this, so it does not import torch."""

from dataclasses import dataclass

from whysgd.errors import UserError
from whysgd.study.registry import constants, file_of, names, problem


@dataclass(frozen=True)
class Quantity:
    """One number of a measure.

    Attributes:
        label: for tables and figures.
        unit: empty if it has none.
        flatter: whether a "lower" or a "higher" value is what the papers call a flatter, or a quieter, minimum; None
            for accuracies, losses and their gaps, which the others are compared with.
    """

    label: str
    unit: str
    flatter: str | None = None


def quantities_of(measure: str) -> dict[str, Quantity]:
    """Return what a measure reports, as its file says."""
    file = file_of("measure", measure)
    if file is None:
        raise UserError(f"measure = {measure!r}: {problem('measure', measure) or 'no such module'}")
    return {key: Quantity(*entry) for key, entry in constants(file)["QUANTITIES"].items()}


MEASURES = {name: quantities_of(name) for name in names("measure")}
QUANTITIES = {name: quantity for measure in MEASURES.values() for name, quantity in measure.items()}


def include(measure: str) -> None:
    """Let tables know what a measure from outside of this repository reports; it is named by its dotted path."""
    if measure not in MEASURES:
        MEASURES[measure] = quantities_of(measure)
        QUANTITIES.update(MEASURES[measure])


# Loss landscapes: where their points lie, and the columns of their files.
LANDSCAPES = ("line", "plane")
LANDSCAPE_COLUMNS = (
    "paper", "run", "seed", "kind", "alpha", "beta", "loss", "accuracy", "penalty", "full_loss",
)  # fmt: skip
