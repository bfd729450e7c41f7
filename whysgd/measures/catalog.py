"""The measures that every run gets, and what each reports; the workflow reads this, so it does not import torch."""

from dataclasses import dataclass

from whysgd.study.registry import constants, file_of, names


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
    return {key: Quantity(*entry) for key, entry in constants(file_of("measure", measure))["QUANTITIES"].items()}


MEASURES = {name: quantities_of(name) for name in names("measure")}
QUANTITIES = {name: quantity for measure in MEASURES.values() for name, quantity in measure.items()}
# Figures that show loss landscapes, and whether each needs points on a line or on a plane.
LANDSCAPES = {"landscape": "line", "contours": "plane", "surface": "plane"}
# Of their files.
LANDSCAPE_COLUMNS = (
    "paper", "run", "seed", "kind", "alpha", "beta", "loss", "accuracy", "penalty", "full_loss",
)  # fmt: skip
