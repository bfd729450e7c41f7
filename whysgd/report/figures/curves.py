"""Test accuracy over training, a panel for each row of a table."""

from whysgd.report.figures._panels import drawn_rows, over_seeds
from whysgd.report.figures._steps import draw_multiples, grid_of
from whysgd.report.style import joined

NEEDS = ("histories", "accuracy")
CAPTION = (
    "Test accuracy of every row over update steps and, where a step is not the same part of a pass in all rows, over "
    "passes: the median over the seeds that have not ended, with a thin line for each of up to five seeds or, of more, "
    "a band between the quartiles. Grey are the medians of the rows, or columns, that it is compared with."
)


def curves(table, frames):
    """Draw the evaluations."""
    histories = frames["histories"]
    return draw_multiples(table, frames, histories.assign(value=histories.test_accuracy), "test accuracy [%]")


def message(table, frames):
    """Say which rows reach what the first one ends with, and which of them is first, by medians over seeds.

    They are those of the first line of panels that has several.
    """
    histories, labels = frames["histories"], drawn_rows(table)
    courses = {run: over_seeds(histories[histories.run == run], "step", "test_accuracy")["median"] for run in labels}
    courses = {run: course for run, course in courses.items() if len(course)}
    lines = ({run: courses[run] for run in runs.values() if run in courses} for runs in grid_of(table).values())
    courses = next((line for line in lines if len(line) > 1), courses)
    if not courses:
        return "No test accuracy was evaluated", ""
    (first, own), *others = courses.items()
    level = own.iloc[-1]
    several = histories[histories.run == first].seed.nunique() > 1
    steps = {run: course.index[course >= level].min() for run, course in others if (course >= level).any()}
    end = f"the {'median ' if several else ''}{level:.1f} % at which {labels[first]} ends"
    if steps:
        least = min(steps.values())
        soonest = [labels[run] for run, step in steps.items() if step == least]
        first_by = f", {soonest[0]} first" if len(soonest) == 1 < len(steps) else ""
        get = "gets" if len(steps) == 1 else "get"
        title = f"{joined([labels[run] for run in steps], len(others))} {get} to {end}{first_by}, by step {least:,}"
    elif len(others) > 1:
        title = f"No other row gets to {end}"
    elif others:
        title = f"{labels[others[0][0]]} does not get to {end}"
    else:
        title = f"{labels[first]} ends at {'a median of ' if several else ''}{level:.1f} %"
    ends = (f"{labels[run]} ends at {course.iloc[-1]:.1f} % at step {course.index[-1]:,}"
            for run, course in courses.items())  # fmt: skip
    return title, "; ".join(ends)
