"""Test accuracy against training accuracy at the last step: who fits the training set, and who generalizes."""

from itertools import product
from statistics import median

import numpy as np

from whysgd.report.figures._rows import differences, made_rows, row_name, seeds_of_row
from whysgd.report.statistics import recovered
from whysgd.report.style import NARROW, QUIET, add_legend, plt

NEEDS = ("accuracy",)
CAPTION = (
    "Test accuracy against training accuracy at the last step of every row: small dots are seeds, the large one is "
    "their median. On the diagonal as many test images as training images are classified; the further below it, the "
    "less of what is learned generalizes."
)
HEIGHT, WIDTHS = 4.2, (1, 2.4)  # inches, and of the panels to each other
ALIKE = 1.0  # point of training accuracy, by which a row fits no worse
CLOSER = 0.6  # of the panel of all: what those that fit take at most to have a panel of their own
# Where a label may stand beside its dot, in points, and how it is aligned; the first place that is free is taken.
PLACES = [
    ((x, y), {"ha": ha, "va": va})
    for distance in (8, 14, 22, 32, 44)
    for (x, ha), (y, va) in product(
        ((distance, "left"), (-distance, "right"), (0, "center")),
        ((0, "center"), (distance, "bottom"), (-distance, "top")),
    )
    if x or y
]


def generalization(table, frames):
    """Draw a dot for each seed, and the median with its label, or a legend if a label finds no place.

    Where some rows fit the training set far worse, a first panel has all rows, and a second one those that fit.
    """
    points = _points(table, frames["runs"])
    fitted = [median(train) for _, train, _ in points]
    near = [point for point, train in zip(points, fitted, strict=True) if 2 * train >= min(fitted) + max(fitted)]
    closer = len(near) > 1 and max(_span(near, part) / max(_span(points, part), 1e-9) for part in (1, 2)) < CLOSER
    shown = [points, near] if closer else [points]
    widths = WIDTHS if closer else (1,)
    figure, axes = plt.subplots(1, len(shown), figsize=(NARROW, HEIGHT), width_ratios=widths, squeeze=False)
    for axis, part in zip(axes[0], shown, strict=True):
        for row, train, test in part:
            look = {"color": table["colours"][row["run"]], "marker": "o", "ls": "none"}
            axis.plot(train, test, **look, ms=4.5, alpha=0.5, mew=0, zorder=3)
            axis.plot(median(train), median(test), **look, ms=9, mec="white", mew=1.2, zorder=4, label=row_name(row))
        axis.margins(0.24 if part is near else 0.12, 0.12)  # room for labels
        axis.set(xlabel="training accuracy [%]", xlim=axis.get_xlim(), ylim=axis.get_ylim())
        axis.axline((50, 50), slope=1, color=QUIET, lw=0.8, alpha=0.6, zorder=1)
    axes[0, 0].set_ylabel("test accuracy [%]")
    if closer:
        (low, high), (left, right) = axes[0, 1].get_ylim(), axes[0, 1].get_xlim()
        box = {"fill": False, "ec": QUIET, "lw": 0.8, "zorder": 2}
        axes[0, 0].add_patch(plt.Rectangle((left, low), right - left, high - low, **box))
        axes[0, 1].set_title("closer: the rows in the frame", color=QUIET, loc="left")
    figure.draw_without_rendering()
    far = [point for point in points if not closer or point not in near]
    if not all(_labelled(axis, part) for axis, part in zip(axes[0], [far, near], strict=False)):
        add_legend(figure, "lower center", ncols=3)
    return figure


def _span(points: list, part: int) -> float:
    values = [value for point in points for value in point[part]]
    return max(values) - min(values)


def _points(table: dict, runs) -> list[tuple[dict, list[float], list[float]]]:
    """Return the rows that were measured, with the training and the test accuracy of each seed."""
    found = []
    for row in made_rows(table).values():
        train, test = (seeds_of_row(runs, row, f"{part}_accuracy") for part in ("train", "test"))
        if seeds := [seed for seed in train if seed in test]:
            found.append((row, [train[seed] for seed in seeds], [test[seed] for seed in seeds]))
    return found


def _labelled(axis, points: list) -> bool:
    """Write each label nearest to its own dot, and over no dot or label; write none if one finds no such place."""
    dots = [axis.transData.transform(xy) for line in axis.lines if line.get_marker() == "o" for xy in line.get_xydata()]
    medians = {name: axis.transData.transform(line.get_xydata()[0])
               for line, name in zip(*axis.get_legend_handles_labels(), strict=True)}  # fmt: skip
    texts = []
    for row, train, test in sorted(points, key=lambda point: -median(point[2])):
        for offset, aligned in PLACES:
            line = {"arrowstyle": "-", "color": QUIET, "lw": 0.6, "shrinkA": 1, "shrinkB": 5}
            text = axis.annotate(
                row_name(row), (median(train), median(test)), offset, textcoords="offset points", **aligned, zorder=5,
                arrowprops=line if max(map(abs, offset)) > PLACES[0][0][0] else None,
            )  # fmt: skip
            text.update_positions(axis.figure.canvas.get_renderer())
            box = plt.Text.get_window_extent(text)  # That of an annotation has its line.
            away = {name: np.hypot(*(np.clip(at, box.min, box.max) - at)) for name, at in medians.items()}
            own = away.pop(row_name(row))
            inside = axis.bbox.padded(4).contains(*box.min) and axis.bbox.padded(4).contains(*box.max)
            covered = any(box.padded(5).contains(*dot) for dot in dots)
            if inside and not covered and own < min(away.values(), default=own + 1) - 3 and not any(
                box.padded(2).overlaps(plt.Text.get_window_extent(other)) for other in texts
            ):  # fmt: skip
                texts.append(text)
                break
            text.remove()
        else:
            for text in texts:
                text.remove()
            return False
    return True


def message(table, frames):
    """Say whether a row fits as well as the first one and generalizes less, and which other row closes that gap."""
    runs = frames["runs"]
    points = [(row, median(train), median(test)) for row, train, test in _points(table, runs)]
    numbers = [f"{row_name(row)} {test:.1f} % of the test and {train:.1f} % of the training images"
               for row, train, test in points]  # fmt: skip
    if not points:
        return "No seed has a training and a test accuracy", ""
    (first, fitted, reached), *others = points
    name, doubt = row_name(first), " (one seed each)" if (runs.groupby("run").seed.nunique() == 1).all() else ""
    signs = {one.row["run"]: one.sign for one in differences({**table, "gap": None}, runs)}
    below = [(row, train, test) for row, train, test in others
             if train >= fitted - ALIKE and test < reached and (doubt or signs.get(row["run"]) == -1)]  # fmt: skip
    best, _, top = max(points, key=lambda point: point[-1])
    if not below and best is first and (doubt or all(signs.get(row["run"]) == -1 for row, *_ in others)):
        return f"{name} generalizes best, with {top:.1f} % of the test images{doubt}", "; ".join(numbers)
    if not below and (signs.get(best["run"]) == 1 or (doubt and best is not first)):
        title = f"{row_name(best)} generalizes better than {name}: {top:.1f} against {reached:.1f} % of the test images"
        return title + doubt, "; ".join(numbers)
    if not below:
        return f"No row that fits as well as {name} generalizes clearly less", "; ".join(numbers)
    worst, train, low = min(below, key=lambda point: point[-1])
    fits = f"better than {name}" if train > fitted + ALIKE else f"as well as {name}"
    title = f"{row_name(worst)} fits {fits} and generalizes less"
    best, _, top = max(others, key=lambda point: point[-1])
    if top > low:
        values = {row["run"]: seeds_of_row(runs, row, "test_accuracy") for row in (worst, best, first)}
        share = recovered(best["run"], worst["run"], first["run"], values).value
        title += f"; {row_name(best)} closes {'all' if share >= 1 else f'{100 * share:.0f} %'} of the gap"
    return title + doubt, "; ".join(numbers)
