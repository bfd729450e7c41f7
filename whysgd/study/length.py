"""How long a run is: its images, micro-batches, steps and epochs."""

from typing import NamedTuple

from whysgd.study.spec import FULL_BATCH, ONE_MICRO_BATCH, RunSpec


def trained_images(spec: RunSpec, images: int) -> int:
    """Return how many of the training images are trained on; the rest, held out, comes last."""
    return images - round(spec.held_out * images)


def total_steps(spec: RunSpec, train_images: int) -> int:
    """Return the optimizer steps of the run; `train_images` are those trained on, here and below."""
    last = phases(spec, train_images)[-1]
    return spec.steps or last.step + (spec.epochs - last.epoch) * steps_per_epoch(last.spec, train_images)


class Phase(NamedTuple):
    """A part of a run with steps of one size: its specification, and its first step and epoch, both from 0."""

    spec: RunSpec
    step: int
    epoch: int


def phases(spec: RunSpec, train_images: int) -> list[Phase]:
    """Return the parts of a run between its switches, in order; a run without them is one."""
    found = [Phase(spec.model_copy(update={"switch": ()}), 0, 0)]
    for one in spec.switch:
        before, step, epoch = found[-1]
        per_epoch = steps_per_epoch(before, train_images)
        here = (one.at - epoch) * per_epoch + step if one.unit == "epoch" else one.at
        batch = spec.micro_batch if one.to == ONE_MICRO_BATCH else one.to
        found.append(Phase(before.model_copy(update={"batch": batch}), here, epoch - (step - here) // per_epoch))
    return found


def phase_at(spec: RunSpec, train_images: int, step: int) -> Phase:
    """Return the part of a run that has a step, counted from 0."""
    return [phase for phase in phases(spec, train_images) if phase.step <= step][-1]


def epoch_at(spec: RunSpec, train_images: int, step: int) -> int:
    """Return the epoch of a step, both counted from 0."""
    phase = phase_at(spec, train_images, step)
    return phase.epoch + (step - phase.step) // steps_per_epoch(phase.spec, train_images)


def misfit(spec: RunSpec, images: int) -> tuple[str, object, str] | None:
    """Return the setting that does not fit so many training images, its value, and what is allowed; None if all do."""
    count = trained_images(spec, images)
    most = f"must be at most {count}, the images trained on"
    if spec.held_out and count in (0, images):
        return "held_out", spec.held_out, f"leaves {count} of {images} images to train on: some must be on each side"
    for key in ("micro_batch", "batch"):
        size = getattr(spec, key)
        if size != FULL_BATCH and size > count:
            return key, size, most
    if spec.probe and spec.probe.micro_batch * spec.probe.micro_batches > count:
        return "probe", dict(spec.probe), f"micro_batch times micro_batches {most}"
    if spec.switch:
        last = phases(spec, count)[-1]
        if (spec.steps and last.step >= spec.steps) or (spec.epochs and last.epoch >= spec.epochs):
            return "switch", spec.switch[-1].at, "must be before the run's end"
    return None


def epoch_images(spec: RunSpec, train_images: int) -> int:
    """Return the images of one epoch of `train_images`: all stored copies for full batch, else one of them."""
    return train_images * (spec.store.copies if spec.store and spec.full_batch else 1)


def steps_per_epoch(spec: RunSpec, train_images: int) -> int:
    """Return the optimizer steps of one epoch of `train_images`; the last may have fewer micro-batches."""
    count = micro_batches_per_epoch(spec, train_images)
    return 1 if spec.full_batch else -(-count // spec.micro_batches_per_step)


def micro_batches_per_epoch(spec: RunSpec, train_images: int) -> int:
    """Return the micro-batches of one epoch; a last one that is not full counts unless `drop_last`."""
    images = epoch_images(spec, train_images)
    return images // spec.micro_batch if spec.drop_last else -(-images // spec.micro_batch)
