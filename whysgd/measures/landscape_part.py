"""One part of the loss landscapes of a run: points are independent, so parts are computed in parallel and apart."""

from collections.abc import Iterable
from pathlib import Path

from whysgd.errors import UserError
from whysgd.files import csv_text, write_text
from whysgd.measures.catalog import LANDSCAPE_COLUMNS, View
from whysgd.measures.directions import filter_normalized
from whysgd.measures.landscape import FullLoss, grid, landscape
from whysgd.measures.landscape import chunk as part_of
from whysgd.measures.run import TrainedRun
from whysgd.study.length import epoch_at, total_steps
from whysgd.training.optimizers import decay_of
from whysgd.training.schedules import learning_rate

DEFAULTS = View()


def landscape_of(
    runs: Iterable[TrainedRun], kind: str, points: int, part: tuple[int, int], out: Path, view: View = DEFAULTS
) -> None:
    """One part of the loss landscape of each seed of a run, as CSV with the columns `LANDSCAPE_COLUMNS`.

    Args:
        runs: the seeds, as `load_runs` yields them. One that diverged has no points.
        kind: "line" or "plane".
        points: of each axis.
        part: which, from 0, of how many parts.
        out: the file.
        view: where and how.

    Raises:
        UserError: the images do not fill a micro-batch.
    """
    where = part_of(grid(kind, points, view.alpha, view.beta), *part)
    lines = []
    for run in runs:
        if run.model is None:
            continue
        spec, axes = run.spec, 1 if kind == "line" else 2
        # Seed 0 for every run: the same draws, each with the lengths of the network's own filters.
        directions = [filter_normalized(run.model, 0, i, view.norm, view.biases) for i in range(axes)]
        full = FullLoss(decay_of(spec), getattr(spec.penalty, "block_strength", 0.0), spec.lr, _final_lr(run))
        try:
            found = landscape(run.model, run.train, where, directions, full, spec.micro_batch, view.training)
        except ValueError as error:
            raise UserError(f"landscape: {spec.run}: {error}") from None
        names = {"paper": spec.paper, "run": spec.run, "seed": spec.seed, "kind": kind}
        lines += [{**names, **line} for line in found]
    write_text(out, csv_text(LANDSCAPE_COLUMNS, lines))


def _final_lr(run: TrainedRun) -> float:
    """The learning rate of the step after the last one, which a checkpoint of the released code has."""
    spec, steps, images = run.spec, run.metrics["steps"], run.metrics["data"]["train_images"]
    time = epoch_at(spec, images, steps) if spec.schedule.unit == "epoch" else steps
    return learning_rate(spec.schedule, spec.lr, time, total_steps(spec, images))
