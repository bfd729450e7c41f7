"""One part of a run's loss landscape: points are independent, so parts are computed in parallel and apart."""

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
    run: TrainedRun,
    kind: str,
    points: int,
    part: tuple[int, int],
    out: Path,
    like: TrainedRun | None = None,
    view: View = DEFAULTS,
) -> None:
    """One part of a run's loss landscape, as CSV with the columns `LANDSCAPE_COLUMNS`.

    Args:
        run: of `load_runs`.
        kind: "line" or "plane".
        points: of each axis.
        part: which, from 0, of how many parts.
        out: the file.
        like: the run whose filters give the directions their lengths, so that networks can share directions exactly;
            None, or one that diverged: this run itself.
        view: where and how.

    Raises:
        UserError: `like` has another network; the images do not fill a micro-batch.
    """
    where = part_of(grid(kind, points, view.alpha, view.beta), *part)
    lines = []
    if run.model is not None:
        axes = 1 if kind == "line" else 2
        # Seed 0 for every run: the same draws, so that two runs are looked at along the same directions.
        filters = None if like is None or like.model is None else _filters(like, run)
        directions = [filter_normalized(run.model, 0, i, filters, view.norm, view.biases) for i in range(axes)]
        spec = run.spec
        full = FullLoss(decay_of(spec), getattr(spec.penalty, "block_strength", 0.0), spec.lr, _final_lr(run))
        try:
            lines = landscape(run.model, run.train, where, directions, full, spec.micro_batch, view.training)
        except ValueError as error:
            raise UserError(f"landscape: {spec.run}: {error}") from None
    names = {"paper": run.spec.paper, "run": run.spec.run, "seed": run.spec.seed, "kind": kind}
    write_text(out, csv_text(LANDSCAPE_COLUMNS, [{**names, **line} for line in lines]))


def _final_lr(run: TrainedRun) -> float:
    """The learning rate of the step after the last one, which a checkpoint of the released code has."""
    spec, steps, images = run.spec, run.metrics["steps"], run.metrics["data"]["train_images"]
    time = epoch_at(spec, images, steps) if spec.schedule.unit == "epoch" else steps
    return learning_rate(spec.schedule, spec.lr, time, total_steps(spec, images))


def _filters(like: TrainedRun, run: TrainedRun) -> dict:
    if like.spec.model != run.spec.model:
        raise UserError(f"landscape: {like.spec.run}: must be a run of a {run.spec.model}")
    return like.model.state_dict()
