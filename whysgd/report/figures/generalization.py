"""Test accuracy against training accuracy at the last step: who fits the training set, and who generalizes."""

from itertools import product

import numpy as np

from whysgd.report.baselines import Difference, row_name, seeds_of_row
from whysgd.report.figures._rows import clearly_beside, made_rows, one_seed
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
    """Draw a dot for each seed, and the mean with its label, or a legend of all if a label finds no place.

    Where some rows fit the training set far worse, a first panel has all rows, and a second one those that fit.
    """
    points = _points(table, frames["runs"])
    fitted = [mean(train.values()) for _, train, _ in points]
    near = [point for point, train in zip(points, fitted, strict=True) if 2 * train >= min(fitted) + max(fitted)]
    closer = len(near) > 1 and max(_span(near, part) / max(_span(points, part), 1e-9) for part in (1, 2)) < CLOSER
    shown = [points, near] if closer else [points]
    widths = WIDTHS if closer else (1,)
    figure, axes = plt.subplots(1, len(shown), figsize=(NARROW, HEIGHT), width_ratios=widths, squeeze=False)
    for axis, part in zip(axes[0], shown, strict=True):
        for row, train, test in part:
            look = {"color": table["colours"][row["run"]], "marker": "o", "ls": "none"}
            axis.plot(train.values(), test.values(), **look, ms=4.5, alpha=0.5, mew=0, zorder=3)
            axis.plot(*_means(train, test), **look, ms=9, mec="white", mew=1.2, zorder=4, label=row_name(row))
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
        for text in (text for axis in axes[0] for text in [*axis.texts]):
            text.remove()
        add_legend(figure, "lower center", ncols=3)
    return figure


def _span(points: list, part: int) -> float:
    values = [value for point in points for value in point[part].values()]
    return max(values) - min(values)


def _means(*accuracies: Seeds) -> tuple[float, ...]:
    return tuple(mean(values.values()) for values in accuracies)


def _points(table: dict, runs) -> list[tuple[dict, Seeds, Seeds]]:
    """Return the rows that were measured, with the training and the test accuracy by seed."""
    found = []
    for row in made_rows(table).values():
        train, test = (seeds_of_row(runs, row, f"{part}_accuracy") for part in ("train", "test"))
        if seeds := [seed for seed in train if seed in test]:
            found.append((row, {seed: train[seed] for seed in seeds}, {seed: test[seed] for seed in seeds}))
    return found


def _labelled(axis, points: list) -> bool:
    """Write each label nearest to its own dot, and over no dot or label; return whether each found such a place."""
    dots = [axis.transData.transform(xy) for line in axis.lines if line.get_marker() == "o" for xy in line.get_xydata()]
    means = {name: axis.transData.transform(line.get_xydata()[0])
             for line, name in zip(*axis.get_legend_handles_labels(), strict=True)}  # fmt: skip
    texts = []
    for row, train, test in sorted(points, key=lambda point: -mean(point[2].values())):
        for offset, aligned in PLACES:
            line = {"arrowstyle": "-", "color": QUIET, "lw": 0.6, "shrinkA": 1, "shrinkB": 5}
            text = axis.annotate(
                row_name(row), _means(train, test), offset, textcoords="offset points", **aligned, zorder=5,
                arrowprops=line if max(map(abs, offset)) > PLACES[0][0][0] else None,
            )  # fmt: skip
            text.update_positions(axis.figure.canvas.get_renderer())
            box = plt.Text.get_window_extent(text)  # That of an annotation has its line.
            away = {name: np.hypot(*(np.clip(at, box.min, box.max) - at)) for name, at in means.items()}
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
            return False
    return True


def message(table, frames):
    """Say who generalizes less, or better, than the first row, and give the numbers."""
    points = _points(table, frames["runs"])
    if not points:
        return "No seed has a training and a test accuracy", ""
    numbers = (f"{row_name(row)} {_percent(test)} of the test and {_percent(train)} of the training images"
               for row, train, test in points)  # fmt: skip
    return _title(points), "; ".join(numbers)


def _title(points: list) -> str:
    """Return the first of these titles that is true: a row fits as well as the first one and generalizes less, rows
    have a higher test accuracy, all others have a lower one, none was judged, or some or none is clearly more or less
    accurate.

    A row of one seed is not judged; it is named in parentheses.
    """
    first, *others = (row for row, *_ in points)
    train = {row["run"]: mean(values.values()) for row, values, _ in points}
    test = {row["run"]: values for row, _, values in points}
    name, fitted, end = row_name(first), train[first["run"]], mean(test[first["run"]].values())
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
        top = max(round(end + one.value, 1) for one in above)
        best = [row_name(one.row) for one in above if round(end + one.value, 1) == top]
        verb = "has" if len(above) == 1 else "have"
        who = "" if len(best) == len(above) else f" {joined(best)} the highest"
        title = (
            f"{joined([row_name(one.row) for one in above], len(judged))} {verb} a higher test accuracy than {name},"
        )
        title += f"{who} with {top:.1f} against {end:.1f} %"
    elif below and len(below) == len(judged) and all(one.value < 0 for one in found):
        low, high = (f"{end + one(part.value for part in found):.1f}" for one in (min, max))
        rest = f"{row_name(below[0].row)} ends at {low}" if len(found) == 1 else f"the others end at {low} to {high}"
        title = f"{name} has the highest test accuracy, {end:.1f} %; {rest} %"
    elif found and not judged:
        row, _, highest = max(points, key=lambda point: mean(point[2].values()))
        ends = f"{row_name(row)} ends highest, at {_percent(highest)} test accuracy"
        return f"{clearly_beside(found, name)}; {ends}"
    elif not found:
        title = f"{name} ends at {end:.1f} % test accuracy"
    else:
        return f"On the test images, {clearly_beside(found, name)}"
    return title + one_seed(found)


def _closes(best: Difference, worst: Difference, test: dict[str, Seeds]) -> str:
    """Return which share of the worst row's gap the best row closes if it clearly ends elsewhere than the first one,
    else within how many points of it; nothing if these are as many as the gap.
    """
    if best.value <= worst.value:
        return ""
    name = row_name(best.row)
    if best.sign:
        share = recovered(best.row["run"], worst.row["run"], worst.baseline["run"], test).value
        return f"; {name} closes {'all' if share >= 1 else f'{min(99, round(100 * share))} %'} of the gap"
    most = abs(best.value) + best.half
    return f"; {name} ends within {most:.1f} points of {row_name(best.baseline)}" if most < -worst.value else ""


def _percent(accuracies: Seeds) -> str:
    return f"{mean(accuracies.values()):.1f} %"
