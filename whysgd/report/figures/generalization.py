"""Test accuracy against training accuracy at the last step: who fits the training set, and who generalizes."""

from typing import NamedTuple

import numpy as np

from whysgd.report.baselines import Difference, row_name, seeds_of_row
from whysgd.report.figures._panels import made_rows
from whysgd.report.figures._rows import clearly_beside, one_seed
from whysgd.report.statistics import Seeds, difference, mean, recovered
from whysgd.report.style import NARROW, QUIET, add_legend, joined, plt

NEEDS = ("accuracy",)
CAPTION = (
    "Test accuracy against training accuracy at the last step of every row: small dots are seeds, the large one is "
    "their mean. On the line test accuracy equals training accuracy; the further below it, the less of what is "
    "learned generalizes."
)
HEIGHT, WIDTHS = 4.2, (1, 2.4)  # inches, and of the panels to each other
ALIKE = 1.0  # point of training accuracy, by which a row fits no worse
CLOSER = 0.6  # of the panel of all: what those that fit take at most to have a panel of their own
# Where a label may stand beside its dot, in points, and how it is aligned; the first place that is free is taken.
ACROSS, ALONG = {1: "left", -1: "right", 0: "center"}, {0: "center", 1: "bottom", -1: "top"}
PLACES = [
    ((x * distance, y * distance), {"ha": ACROSS[x], "va": ALONG[y]})
    for distance in (8, 14, 22, 32, 44) for x in ACROSS for y in ALONG if x or y
]  # fmt: skip


class Point(NamedTuple):
    """A row that was measured, with the training and the test accuracy by seed."""

    row: dict
    train: Seeds
    test: Seeds

    @property
    def name(self) -> str:
        return row_name(self.row)

    @property
    def means(self) -> tuple[float, float]:
        return mean(self.train.values()), mean(self.test.values())


def _points(table: dict, runs) -> list[Point]:
    found = []
    for row in made_rows(table).values():
        train, test = (seeds_of_row(runs, row, f"{part}_accuracy") for part in ("train", "test"))
        if seeds := [seed for seed in train if seed in test]:
            found.append(Point(row, {seed: train[seed] for seed in seeds}, {seed: test[seed] for seed in seeds}))
    return found


def generalization(table, frames):
    """Draw a dot for each seed, and the mean with its label, or a legend of all if a label finds no place.

    Where some rows fit the training set far worse, a first panel has all rows, and a second one those that fit.
    """
    points = _points(table, frames["runs"])
    fitted = [point.means[0] for point in points]
    near = [point for point in points if 2 * point.means[0] >= min(fitted) + max(fitted)]
    closer = len(near) > 1 and all(
        _span(near, part) < CLOSER * max(_span(points, part), 1e-9) for part in ("train", "test")
    )
    shown, labelled, widths = [points], [points], [1]
    if closer:
        shown, labelled, widths = [points, near], [[point for point in points if point not in near], near], WIDTHS
    figure, (axes,) = plt.subplots(1, len(shown), figsize=(NARROW, HEIGHT), width_ratios=widths, squeeze=False)
    for axis, part in zip(axes, shown, strict=True):
        for point in part:
            look = {"color": table["colours"][point.row["run"]], "marker": "o", "ls": "none"}
            axis.plot(point.train.values(), point.test.values(), **look, ms=4.5, alpha=0.5, mew=0, zorder=3)
            axis.plot(*point.means, **look, ms=9, mec="white", mew=1.2, zorder=4, label=point.name)
        axis.margins(0.24 if part is near else 0.12, 0.12)  # room for labels
        axis.set(xlabel="training accuracy [%]", xlim=axis.get_xlim(), ylim=axis.get_ylim())
        axis.axline((50, 50), slope=1, color=QUIET, lw=0.8, alpha=0.6, zorder=1)
    axes[0].set_ylabel("test accuracy [%]")
    if closer:
        (low, high), (left, right) = axes[1].get_ylim(), axes[1].get_xlim()
        box = {"fill": False, "ec": QUIET, "lw": 0.8, "zorder": 2}
        axes[0].add_patch(plt.Rectangle((left, low), right - left, high - low, **box))
        axes[1].set_title("closer: the rows in the frame", color=QUIET, loc="left")
    figure.draw_without_rendering()
    if not all(map(_label, axes, shown, labelled)):
        for text in [text for axis in axes for text in axis.texts]:
            text.remove()
        add_legend(figure, "lower center", ncols=3)
    return figure


def _span(points: list[Point], part: str) -> float:
    return np.ptp([value for point in points for value in getattr(point, part).values()])


def _label(axis, shown: list[Point], points: list[Point]) -> bool:
    """Write each label nearest to its own dot, and over no dot or label; return whether each found such a place."""
    dots = [axis.transData.transform(xy) for line in axis.lines if line.get_marker() == "o" for xy in line.get_xydata()]
    means = {point.name: axis.transData.transform(point.means) for point in shown}
    inner, texts = axis.bbox.padded(4), []
    for point in sorted(points, key=lambda point: -point.means[1]):
        for offset, aligned in PLACES:
            line = {"arrowstyle": "-", "color": QUIET, "lw": 0.6, "shrinkA": 1, "shrinkB": 5}
            text = axis.annotate(
                point.name, point.means, offset, textcoords="offset points", **aligned, zorder=5,
                arrowprops=line if max(map(abs, offset)) > PLACES[0][0][0] else None,
            )  # fmt: skip
            text.update_positions(axis.figure.canvas.get_renderer())
            box = plt.Text.get_window_extent(text)  # That of an annotation has its line.
            away = {name: np.hypot(*(np.clip(at, box.min, box.max) - at)) for name, at in means.items()}
            own = away.pop(point.name)
            inside = inner.contains(*box.min) and inner.contains(*box.max)
            covered = any(box.padded(5).contains(*dot) for dot in dots)
            if inside and not covered and own < min(away.values(), default=own + 1) - 3 and not any(
                box.padded(2).overlaps(plt.Text.get_window_extent(other)) for other in texts
            ):  # fmt: skip
                texts.append(text)
                break
            text.remove()
        else:
            return False
    return True


def message(table, frames):
    """Say who generalizes less, or better, than the first row, and give the numbers."""
    points = _points(table, frames["runs"])
    if not points:
        return "No seed has a training and a test accuracy", ""
    numbers = []
    for point in points:
        train, test = point.means
        numbers.append(f"{point.name} {test:.1f} % of the test and {train:.1f} % of the training images")
    return _title(points), "; ".join(numbers)


def _title(points: list[Point]) -> str:
    """Return the first title that is true. A row of one seed is not judged; it is named in parentheses."""
    first, *others = (point.row for point in points)
    train = {point.row["run"]: point.means[0] for point in points}
    test = {point.row["run"]: point.test for point in points}
    name, (fitted, end) = points[0].name, points[0].means
    found = [Difference(row, first, *difference({row["run"]: 1.0, first["run"]: -1.0}, test), None) for row in others]
    judged = [one for one in found if one.half is not None]
    above, below = ([one for one in judged if one.sign == sign] for sign in (1, -1))
    fitting = [one for one in below if train[one.row["run"]] >= fitted - ALIKE]
    if fitting:
        worst = min(fitting, key=lambda one: one.value)
        fits = "better than" if train[worst.row["run"]] > fitted + ALIKE else "as well as"
        best = max(judged, key=lambda one: one.value)
        title = f"{row_name(worst.row)} fits {fits} {name} and generalizes less{_closes(best, worst, test)}"
    elif above:
        ends = {row_name(one.row): round(mean(test[one.row["run"]].values()), 1) for one in above}
        top = max(ends.values())
        best = [row for row, value in ends.items() if value == top]
        verb = "has" if len(above) == 1 else "have"
        who = "" if len(best) == len(above) else f" {joined(best)} the highest"
        rows = joined([row_name(one.row) for one in above], len(judged))
        title = f"{rows} {verb} a higher test accuracy than {name},{who} with {top:.1f} against {end:.1f} %"
    elif below and len(below) == len(judged) and all(one.value < 0 for one in found):
        ends = [mean(test[one.row["run"]].values()) for one in found]
        low, high = f"{min(ends):.1f}", f"{max(ends):.1f}"
        rest = f"{row_name(below[0].row)} ends at {low}" if len(found) == 1 else f"the others end at {low} to {high}"
        title = f"{name} has the highest test accuracy, {end:.1f} %; {rest} %"
    elif found and not judged:
        best = max(points, key=lambda point: point.means[1])
        return f"{clearly_beside(found, name)}; {best.name} ends highest, at {best.means[1]:.1f} % test accuracy"
    elif not found:
        title = f"{name} ends at {end:.1f} % test accuracy"
    else:
        return f"On the test images, {clearly_beside(found, name)}"
    return title + one_seed(found)


def _closes(best: Difference, worst: Difference, test: dict[str, Seeds]) -> str:
    """Return which share of the worst row's gap the best row closes, or within how many points of the first it ends."""
    if best.value <= worst.value:
        return ""
    name = row_name(best.row)
    if best.sign:
        share, _ = recovered(best.row["run"], worst.row["run"], worst.baseline["run"], test)
        return f"; {name} closes {'all' if share >= 1 else f'{min(99, round(100 * share))} %'} of the gap"
    most = abs(best.value) + best.half
    return f"; {name} ends within {most:.1f} points of {row_name(best.baseline)}" if most < -worst.value else ""
