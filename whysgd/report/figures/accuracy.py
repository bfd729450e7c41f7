"""Test accuracy over update steps, as the difference to that of the large batch, a panel for each method."""

from whysgd.report.baselines import differences
from whysgd.report.figures._rows import baseline_name, clearly_beside, names_of, told
from whysgd.report.figures._steps import draw_multiples, to_baseline

NEEDS = ("histories", "accuracy")
CAPTION = (
    "Test accuracy less that of the baseline (where the gap of the table begins) at the same step and seed: the median "
    "over the seeds that have not ended, with a thin line for each of up to five seeds or a band between the "
    "quartiles. Grey are the medians of the other methods. The axis fits the last three quarters of training."
)


def accuracy(table, frames):
    """Draw the evaluations that a method and its baseline have in common."""
    histories = frames["histories"]
    lines = to_baseline(table, histories.assign(value=histories.test_accuracy))
    name = baseline_name(table, differences(table, frames["runs"]))
    return draw_multiples(table, frames, lines, f"test accuracy − {name}'s [points]", level=0.0)


def message(table, frames):
    """Say at the last step, or the selected one, who is clearly better or worse than the baseline."""
    found = differences(table, frames["runs"])
    title = clearly_beside(found, baseline_name(table, found))
    return title, "; ".join(f"{name} {told(one)} points" for name, one in zip(names_of(found), found, strict=True))
