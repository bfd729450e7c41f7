"""What runs, measures and landscapes will cost: seconds, memory and disk, from measured speeds.

Everything is counted in images: those that pass forward and backward, and those that pass forward alone. Seconds are
these counts divided by the device's speeds for the network (`whysgd.study.speeds`), and what a job takes to start.
docs/cost.md says how near that comes. This module never imports torch; the workflow reads it at parse time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from whysgd.data.catalog import BUILT_IN
from whysgd.errors import UserError
from whysgd.files import read_json
from whysgd.models.catalog import architecture
from whysgd.study.spec import (
    Penalty,
    RunSpec,
    blocks_per_epoch,
    epoch_images,
    steps_per_epoch,
    total_steps,
    trained_images,
)
from whysgd.study.speeds import Case, Device, Speed, case_of, penalty_kind

# Seconds in which a job starts Python and torch, without and with a warm worker (`whysgd.warm`), and what a run, a
# measure and a step of the ascent take apart from their images.
START, WARM, EACH_RUN, EACH_MEASURE = 2.0, 0.2, 0.05, 0.003
# In passes forward and backward: the passes over all mini-batches for a tail index, with the estimator; a product with
# the Hessian; the gradient of an image for each class. See docs/measures.md, "What they cost".
TAIL_PASSES, PRODUCT_PASSES, CLASS_PASSES = 3.0, 2.7, 2.2
# Steps of a walk until the loss has risen by the threshold.
WALK = 12
# Megabytes of a process that has loaded torch, without and with a GPU.
BASE_MB = {"cpu": 500, "gpu": 4000}
# What passes keep, in those of a plain one: the first pass and its gradients stay while they are differentiated.
KEPT = {None: 1.0, "forward-differences": 1.5}
KEPT_EXACT = 3.5
# whysgd.measures.run lets a forward pass keep so many megabytes; a product with the Hessian keeps some times as much.
BATCH_MB, EVALUATED = 1024, 1000
MB = 2**20


@dataclass(frozen=True)
class Images:
    """What a data set's images are like: how many for training and for testing, channels, height and width, classes."""

    train: int
    test: int
    channels: int
    size: int
    classes: int

    @property
    def mb(self) -> float:
        """Of its canonical form: a byte for each channel of a pixel, and labels."""
        return (self.train + self.test) * (self.channels * self.size**2 + 8) / MB


@dataclass(frozen=True)
class Cost:
    """Of one job.

    Attributes:
        seconds: None if nothing like it was measured.
        memory_mb: of the computer's memory, at most about so much.
        disk_mb: of the files it leaves; `working_mb`: of those it needs meanwhile, its checkpoints.
        scaled: whether the speed is that of another network, image size or block.
    """

    seconds: float | None
    memory_mb: float
    disk_mb: float
    working_mb: float = 0.0
    scaled: bool = False

    def __add__(self, other: "Cost") -> "Cost":
        """Of two jobs, one after the other."""
        unknown = self.seconds is None or other.seconds is None
        return Cost(
            None if unknown else self.seconds + other.seconds, max(self.memory_mb, other.memory_mb),
            self.disk_mb + other.disk_mb, max(self.working_mb, other.working_mb), self.scaled or other.scaled,
        )  # fmt: skip


NOTHING = Cost(0.0, 0.0, 0.0)


def images_of(config: Mapping, dataset: str) -> Images:
    """What a data set's images are like, as far as it can be known before it is built.

    Raises:
        UserError: it is an image folder without images.
    """
    if dataset in BUILT_IN:
        known = BUILT_IN[dataset]
        classes = 100 if dataset == "cifar100" else 10
        return Images(known["train"], known["test"], known["channels"], known["size"], classes)
    manifest = Path("results/data", dataset, "manifest.json")
    if manifest.is_file():
        built = read_json(manifest)
        channels, size = built["shape"][0], built["shape"][1]
        return Images(built["train_images"], built["test_images"], channels, size, len(built["classes"]))
    return _folder_images(config["datasets"][dataset])


def _folder_images(own: Mapping) -> Images:
    """Of an image folder that is not built yet: its files are counted, and one is looked at."""
    from PIL import Image, UnidentifiedImageError

    files = {
        split: [f for f in sorted(Path(own["path"], split).glob("*/*")) if not f.name.startswith(".")]
        for split in ("train", "test")
    }
    if not files["train"]:
        raise UserError(f"{own['path']}/train: no images; needs train/<class>/ and test/<class>/")
    try:
        with Image.open(files["train"][0]) as image:
            size, channels = image.size[1], 1 if image.mode in ("1", "L", "I", "I;16") else 3
    except (OSError, UnidentifiedImageError) as error:
        raise UserError(f"{files['train'][0]}: not a readable image ({error})") from None
    counts = [min(len(files[split]), own[f"{split}_images"] or len(files[split])) for split in ("train", "test")]
    return Images(*counts, channels, size, len({file.parent for file in files["train"]}))


def training_cost(specs: Sequence[RunSpec], images: Images, device: Device, start: float = START) -> Cost:
    """Of a job that trains these runs: one, or all seeds of one (`whysgd.study.spec.in_lockstep` tells whether together).

    A run that may end early, at a training accuracy, counts as if it did not. `start`: seconds until Python is there.
    """
    spec, count = specs[0], trained_images(specs[0], images.train)
    speed = _speed(specs, images, device)
    memory = BASE_MB[device.about["kind"]] + 3 * images.mb
    if speed is None:
        return Cost(None, memory, _history_mb(spec, count) * len(specs), scaled=True)
    seconds = stepped_images(spec, count, device, speed.parameters) / speed.images_per_second
    seconds += watched_images(spec, count) / _widest(spec, images, device).images_per_second
    seconds += evaluated_images(spec, images) / speed.evaluated_per_second
    weights = 4 * speed.parameters / MB
    if device.about["kind"] == "cpu":
        memory += _kept_mb(spec, speed, count) + 0.2 * EVALUATED * _kept_by_image(speed)
        memory += 10 * weights * len(specs)
    checkpoint = 3 * weights + 4 * total_steps(spec, count) / MB
    return Cost(
        start + EACH_RUN + seconds * len(specs), memory, (weights + _history_mb(spec, count)) * len(specs),
        2 * checkpoint * len(specs), speed.scaled,
    )  # fmt: skip


def stepped_images(spec: RunSpec, count: int, device: Device, parameters: int) -> float:
    """Images that pass forward and backward in the steps of a run trained on `count`, in those of plain steps."""
    steps, per_epoch = total_steps(spec, count), steps_per_epoch(spec, count)
    in_epoch = min(blocks_per_epoch(spec, count) * spec.block, epoch_images(spec, count))
    family = (architecture(spec.model) or ("",))[0]
    factor = device.factor(penalty_kind(spec), parameters, family)
    sample = getattr(spec.penalty, "sample", None)
    passed = steps / per_epoch * in_epoch * (1 if sample else factor)
    passed += steps * min(sample, in_epoch) * factor if sample else 0
    grafts = spec.transform is not None and spec.transform.name == "iter_graft"
    return passed + (steps * spec.block if grafts else 0)


def watched_images(spec: RunSpec, count: int) -> float:
    """Images whose gradients are measured along a run: micro-batch norms, and the gradient noise."""
    watch, noise = spec.watch, spec.noise
    passed = -(-total_steps(spec, count) // watch.every) * watch.micro_batch * watch.micro_batches if watch else 0
    return passed + ((noise.points + 2) * TAIL_PASSES * count if noise else 0)


def evaluated_images(spec: RunSpec, images: Images) -> int:
    """Images that pass forward alone, for the lines of the history."""
    lines = min(spec.evaluations, total_steps(spec, trained_images(spec, images.train)))
    return lines * (images.train + images.test)


def measuring_cost(
    spec: RunSpec, measures: Sequence[str], options: Mapping, images: Images, device: Device, start: float = START
) -> Cost:
    """Of a job that takes these measures of a finished run; `options`: the scale's `measuring`."""
    speed = _widest(spec, images, device)
    memory = BASE_MB[device.about["kind"]] + 6 * images.mb
    disk = 0.002 * len(measures)
    if speed is None:
        return Cost(None, memory, disk, scaled=True)
    seconds = start
    for measure in measures:
        own = options.get(measure, {})
        ascents, backward, forward = measured_images(measure, own, spec, images)
        seconds += EACH_MEASURE + backward / speed.images_per_second + forward / speed.evaluated_per_second
        if ascents:
            # Small batches one after another, as a training step takes them.
            case = Case(spec.model, images.channels, images.size, own["batch"], 1)
            seconds += ascents / device.speed(case).images_per_second
    # Twenty gradients, or the Hessian's vectors, beside what a batch keeps.
    memory += 40 * 4 * speed.parameters / MB
    if device.about["kind"] == "cpu":
        memory += KEPT_EXACT * min(BATCH_MB, images.train * _kept_by_image(speed))
    return Cost(seconds, memory, disk, scaled=speed.scaled)


def measured_images(measure: str, options: Mapping, spec: RunSpec, images: Images) -> tuple[float, ...]:
    """Images that pass forward and backward in small batches, in large ones, and forward alone, for a measure."""
    count = trained_images(spec, images.train)
    first = min(options.get("first") or count, count)
    return {
        "accuracy_gap": lambda: (0, 0, count + images.test),
        "keskar": lambda: (
            options["ascents"] * options["steps"] * options["batch"],
            0,
            (1 + options["ascents"]) * count,
        ),
        "flatness": lambda: (0, 0, (1 + options["directions"] * min(WALK, options["limit"] / options["step"])) * first),
        "hessian": lambda: (0, PRODUCT_PASSES * (options["products"] + options["probes"]) * first, 0),
        "gradient_noise": lambda: (0, count, 0),
        "fisher": lambda: (0, CLASS_PASSES * (images.classes if options["exact"] else 1) * first, first),
        "tail_index": lambda: (0, TAIL_PASSES * count, 0),
    }[measure]()


def landscape_cost(
    spec: RunSpec, kind: str, options: Mapping, images: Images, device: Device, start: float = START
) -> Cost:
    """Of all points of a landscape, "line" or "plane"; `options`: `landscape` of the scale's `measuring`."""
    speed = _widest(spec, images, device)
    points = options["line_points"] if kind == "line" else options["plane_points"] ** 2
    count = trained_images(spec, images.train)
    count = min(options["images"] or count, count)
    memory, disk = BASE_MB[device.about["kind"]] + 6 * images.mb, 150 * points / MB
    if speed is None:
        return Cost(None, memory, disk, scaled=True)
    seconds = points * count / speed.evaluated_per_second
    # The full loss has the norm of each block's gradient in it.
    seconds += points * count / speed.images_per_second if isinstance(spec.penalty, Penalty) else 0
    if device.about["kind"] == "cpu":
        memory += min(BATCH_MB, count * _kept_by_image(speed)) + 10 * 4 * speed.parameters / MB
    return Cost(start * options[f"{kind}_chunks"] + seconds, memory, disk, scaled=speed.scaled)


def data_mb(specs: Sequence[RunSpec], images: Mapping[str, Images]) -> dict[str, float]:
    """Megabytes of the data sets and stores that runs read, by what they are; `images`: by data set."""
    disk = {}
    for spec in specs:
        own = images[spec.dataset]
        disk[f"data/{spec.dataset}"] = own.mb
        if spec.store is not None:
            name = f"stores/{spec.dataset}/{spec.store.name}"
            disk[name] = spec.store.copies * own.train * own.channels * own.size**2 / MB
    return disk


def _speed(specs: Sequence[RunSpec], images: Images, device: Device) -> Speed | None:
    count = trained_images(specs[0], images.train)
    return device.speed(case_of(specs, images.channels, images.size, epoch_images(specs[0], count)))


def _widest(spec: RunSpec, images: Images, device: Device) -> Speed | None:
    """The speed of a measure."""
    return device.widest(case_of([spec], images.channels, images.size, images.train))


def _kept_by_image(speed: Speed) -> float:
    return speed.saved_mb / speed.case.block


def _kept_mb(spec: RunSpec, speed: Speed, count: int) -> float:
    """What the passes over the blocks that are computed at once keep, on a CPU."""
    kind = penalty_kind(spec)
    block = max(spec.block, getattr(spec.penalty, "sample", None) or 0)
    # Small networks take as many blocks as keep one channel of the images in 32,768 numbers.
    pixels = speed.case.size**2
    stacked = min((1 << 20) // max(1, speed.parameters), (1 << 15) // (block * pixels))
    together = max(1, min(stacked, spec.blocks_per_step or count // spec.block))
    return KEPT.get(kind, KEPT_EXACT) * together * block * _kept_by_image(speed)


def _history_mb(spec: RunSpec, count: int) -> float:
    """Of a run's tables: a line for each evaluation or watched step, a norm for each step, and the noise."""
    steps = total_steps(spec, count)
    lines = spec.evaluations + (steps // spec.watch.every if spec.watch else 0)
    noise = (spec.noise.points + 2) * (count // spec.block) * 25 if spec.noise else 0
    return (5000 + 250 * lines + 26 * steps + noise) / MB
