"""Test accuracy over update steps, a panel for each row of a table and a line for each method."""

from whysgd.report.figures._steps import draw_steps

NEEDS = ("histories",)
CAPTION = (
    "Test accuracy over update steps, a panel for each row of the table and a line for each method: mean over seeds, "
    "and a band from the lowest to the highest seed. The axis fits the last three quarters of training."
)
PANEL = (3.4, 3.2)  # inches


def accuracy(table, frames, setting):
    """Draw the accuracies that were evaluated."""
    histories = frames["histories"]
    return draw_steps(table, histories.assign(value=histories.test_accuracy), "test accuracy [%]", setting, PANEL)
