"""The measures that every run gets, and what each reports; the workflow reads this, so it does not import torch."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator

from whysgd.errors import UserError
from whysgd.study.registry import constants, file_of, names, problem
from whysgd.study.settings import Flag, Real, Settings, refuse


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
    "paper", "run", "seed", "kind", "alpha", "beta", "loss", "accuracy", "penalty", "full_loss", "final_full_loss",
)  # fmt: skip


def _range(ends):
    return ends if ends[0] < ends[1] else refuse("must be a lower and a higher end")


Range = Annotated[tuple[Real, Real], AfterValidator(_range)]


class View(Settings):
    """Where and how the loss around a network is looked at."""

    alpha: Range = (-1.0, 1.0)
    """Ends of the first axis."""
    beta: Range = (-1.0, 1.0)
    """Ends of the second axis, of a plane."""
    norm: Literal["filter", "layer", "none"] = "filter"
    """What of a random direction is given the length that the network's has: each filter, each layer, or nothing."""
    biases: Flag = False
    """Move biases and norm layers, too, each along itself, as the released code does; otherwise they stay."""
    training: Flag = False
    """Take the network in training mode: batch norm with the statistics of each micro-batch."""
