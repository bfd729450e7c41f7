"""What one run is: a frozen specification, and how papers × scale × seeds expand to it.

This module never imports torch; the workflow reads it at parse time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields, replace

from whysgd.files import digest_of
from whysgd.models.catalog import architecture
from whysgd.study.names import NEEDED, is_name
from whysgd.study.schedule import Schedule, real, schedule_problem

# What papers/ may say for a macro-batch, beside numbers: every image, or a single block.
FULL_BATCH, ONE_BLOCK = "all", "block"
PRECISIONS = ("auto", "fp32", "tf32", "bf16")
VARIANTS = ("forward-differences", "central-differences", "exact")
# novack2023's, see whysgd.training.micro_batch and whysgd.training.transforms.
MICRO_BATCH_PENALTIES = ("micro_batch_gradient_norm", "fisher_trace", "average_jacobian", "unit_jacobian")
TRANSFORMS = ("iter_graft", "exter_graft", "normalize")
LOSSES = ("cross_entropy", "linear_hinge")


@dataclass(frozen=True)
class Augmentation:
    """Random crop after zero padding by `crop_padding` pixels, and a horizontal flip with probability 1/2."""

    crop_padding: int
    flip: bool


@dataclass(frozen=True)
class StoredCopies:
    """Augmented copies of the training images, drawn once and then fixed; see `whysgd.data.build_store`.

    Attributes:
        copies: how many, N.
        crop_padding, flip: of each image of each copy, as in `Augmentation`.
        seed: of the draws, the same for all runs.
        clean_first: the first copy is the images as they are.
    """

    copies: int
    crop_padding: int
    flip: bool
    seed: int = 0
    clean_first: bool = False

    @property
    def name(self) -> str:
        """Names its file; equal for equal values."""
        parts = [f"x{self.copies}", f"crop{self.crop_padding}", f"seed{self.seed}"]
        return "-".join(parts + ["flip"] * self.flip + ["clean"] * self.clean_first)


@dataclass(frozen=True)
class Normalization:
    """Per-channel mean and standard deviation on the scale 0 to 1."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class Penalty:
    """geiping2022's gradient regularizer; see `whysgd.training.penalties`."""

    name: str
    block_strength: float = 0.5
    acc_strength: float = 0.0
    eps: float = 1e-2
    variant: str = "forward-differences"

    @property
    def exact(self) -> bool:
        """Whether its product is differentiated, not a difference of gradients."""
        return self.variant == "exact"


@dataclass(frozen=True)
class MicroBatchPenalty:
    """novack2023's λR, R averaged over micro-batches, with its exact gradient; see `whysgd.training.micro_batch`.

    Attributes:
        name: one of `MICRO_BATCH_PENALTIES`.
        strength: λ.
        sample: take R from one micro-batch of so many images, drawn from those of the step, instead of from all.
    """

    name: str
    strength: float
    sample: int | None = None
    exact = True


@dataclass(frozen=True)
class Transform:
    """What is done to the norm of a step's gradient; see `whysgd.training.transforms`.

    Attributes:
        name: one of `TRANSFORMS`.
        reference: for exter_graft, the run of the same paper, scale and seed whose gradient norms are taken.
    """

    name: str
    reference: str | None = None


@dataclass(frozen=True)
class Watch:
    """What the history measures beside the step: the average micro-batch gradient norm.

    Attributes:
        every: steps between two lines, the first step being one.
        micro_batch, micro_batches: images of one micro-batch, and how many are drawn for a line.
    """

    every: int
    micro_batch: int
    micro_batches: int


@dataclass(frozen=True)
class NoiseWatch:
    """Measure the gradient noise along the run, with its tail index; see `whysgd.training.noise_log`.

    Attributes:
        points: steps at which it is measured, evenly spread on a log scale, beside the start and the last step.
    """

    points: int


@dataclass(frozen=True)
class RunSpec:
    """Everything that determines the result of one run, and nothing else.

    A step consumes `macro_batch` images in blocks of `block`: equal numbers are SGD, the whole
    training set ("all") is full batch. An epoch is one pass over the training set; over stored copies of it, full
    batch takes them all in each, and stochastic runs take copy e mod N in epoch e.

    Attributes:
        paper, run, scale, seed: which run it is; they also name its folder.
        dataset, normalize, augment: the images; None takes the training set's own statistics, and no augmentation.
        store: train on stored copies; None trains on the images themselves.
        model: a name of `whysgd.models.catalog`.
        macro_batch, block: images of one step ("all": every one) and of one block.
        shuffle, drop_last: a new order in every epoch; leave out a last block that is not full.
        epochs, steps: length of the run, as passes over the training set or as optimizer steps; one of the two.
        lr, schedule: peak learning rate, and its course.
        momentum, nesterov, weight_decay: of SGD; the decay is coupled.
        penalty, transform, clip: the block's penalty; what is done to the norm of a step's gradient, or its largest.
        held_out: the last part of the training images, this share of them, is not trained on: its accuracy selects the
            step that is reported as best. At 0, the test set's does.
        watch: what else the history measures.
        averaging: of the blocks, see `whysgd.training.gradients.block_weights`.
        precision: of the network's arithmetic, see `resolved_precision`; sums and weights are fp32 in any.
        evaluations: lines of the history with losses and accuracies.
        loss: one of `LOSSES`, see `whysgd.training.losses`.
        stop_accuracy: end the run at the first evaluation that finds this training accuracy, in percent, or more.
        noise: measure the gradient noise along the run.
    """

    paper: str
    run: str
    scale: str
    seed: int
    dataset: str
    model: str
    macro_batch: int | str
    block: int
    epochs: int | None
    lr: float
    schedule: Schedule
    steps: int | None = None
    shuffle: bool = False
    drop_last: bool = True
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    normalize: Normalization | None = None
    augment: Augmentation | None = None
    store: StoredCopies | None = None
    penalty: Penalty | MicroBatchPenalty | None = None
    transform: Transform | None = None
    clip: float | None = None
    held_out: float = 0.0
    watch: Watch | None = None
    averaging: str = "mean"
    precision: str = "auto"
    evaluations: int = 20
    loss: str = "cross_entropy"
    stop_accuracy: float | None = None
    noise: NoiseWatch | None = None

    def __post_init__(self):
        """Refuse values that no run can have; a specification may come from the command line as JSON."""

        def whole(value, least):
            return isinstance(value, int) and not isinstance(value, bool) and value >= least

        names = ("paper", "run", "scale", "dataset", "model")
        sizes = self.full_batch or (whole(self.macro_batch, 1) and whole(self.block, 1))
        lengths = [length for length in (self.epochs, self.steps) if length is not None]
        rules = {
            **{name: is_name(getattr(self, name)) for name in names},
            **{name: whole(getattr(self, name), 1) for name in ("block", "evaluations")},
            "epochs": len(lengths) == 1 and whole(lengths[0], 1),
            "seed": whole(self.seed, 0),
            "macro_batch": sizes and (self.full_batch or self.macro_batch % self.block == 0),
            "lr": real(self.lr, 0),
            "momentum": real(self.momentum, 0),
            "weight_decay": real(self.weight_decay, 0),
            "clip": self.clip is None or (real(self.clip, 0) and self.transform is None),
            "schedule": isinstance(self.schedule, Schedule),
            "averaging": self.averaging in ("mean", "historical"),
            "precision": self.precision in PRECISIONS,
            "store": self.store is None or (whole(self.store.copies, 1) and whole(self.store.crop_padding, 0)),
            "held_out": real(self.held_out, 0) and self.held_out < 1 and not (self.held_out and self.store),
            "watch": self.watch is None or all(whole(value, 1) for value in asdict(self.watch).values()),
            "loss": self.loss in LOSSES,
            "stop_accuracy": self.stop_accuracy is None or (real(self.stop_accuracy, 0) and self.stop_accuracy <= 100),
            "noise": self.noise is None or whole(self.noise.points, 1),
        }
        for name, fine in rules.items():
            if not fine:
                raise ValueError(f"{name} = {getattr(self, name)!r}: {_NEEDS.get(name, 'not allowed')}")
        problems = (
            schedule_problem(self.schedule), _penalty_problem(self.penalty), _transform_problem(self.transform),
            precision_problem(self),
        )  # fmt: skip
        for problem in filter(None, problems):
            raise ValueError(problem)

    @property
    def full_batch(self) -> bool:
        return self.macro_batch == FULL_BATCH

    @property
    def blocks_per_step(self) -> int | None:
        """Blocks of one step; None stands for all."""
        return None if self.full_batch else self.macro_batch // self.block

    def to_dict(self) -> dict:
        """The specification as JSON-able values; `from_dict` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping) -> "RunSpec":
        """Read what `to_dict` wrote.

        Raises:
            ValueError: an unknown or missing key, or a value that no run can have.
        """
        parts = {
            "schedule": Schedule, "normalize": Normalization, "augment": Augmentation, "store": StoredCopies,
            "transform": Transform, "watch": Watch, "noise": NoiseWatch,
        }  # fmt: skip
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ValueError(f"unknown key {', '.join(unknown)}; allowed: {', '.join(sorted(known))}")
        built = dict(values)
        try:
            for key, part in parts.items():
                if built.get(key) is not None:
                    built[key] = _part(key, part, built[key])
            if built.get("penalty") is not None:
                part = MicroBatchPenalty if built["penalty"].get("name") in MICRO_BATCH_PENALTIES else Penalty
                built["penalty"] = _part("penalty", part, built["penalty"])
            if isinstance(built.get("normalize"), Normalization):
                norm = built["normalize"]
                built["normalize"] = Normalization(tuple(norm.mean), tuple(norm.std))
            if isinstance(built.get("schedule"), Schedule) and built["schedule"].milestones is not None:
                built["schedule"] = replace(built["schedule"], milestones=tuple(built["schedule"].milestones))
            return cls(**built)
        except TypeError as error:
            raise ValueError(str(error)) from None

    @property
    def digest(self) -> str:
        """Equal for equal specifications."""
        return digest_of(self.to_dict())

    @property
    def folder(self) -> str:
        """Where the run's results lie, relative to the root of the project."""
        return f"results/{self.scale}/runs/{self.paper}/{self.run}/seed-{self.seed}"


_NEEDS = {
    **dict.fromkeys(("paper", "run", "scale", "dataset", "model"), NEEDED),
    "stop_accuracy": "must be at least 0 and at most 100, in percent",
    "noise": "points must be a whole number of at least 1",
    "loss": f"allowed: {', '.join(LOSSES)}",
    "epochs": "either epochs or steps must be given, a whole number of at least 1",
    "clip": "must be at least 0, and cannot be given beside a transform",
    "held_out": "must be at least 0 and below 1, and cannot be given beside stored copies",
}


def _part(key: str, part: type, values: Mapping):
    """One of the specification's parts; an unknown or missing key is named."""
    known = {field.name for field in fields(part)}
    needed = {field.name for field in fields(part) if field.default is MISSING}
    if unknown := sorted(set(values) - known):
        allowed = ", ".join(sorted(known))
        raise ValueError(f"{key}: {', '.join(unknown)}: not of {values.get('name', key)}; allowed: {allowed}")
    if missing := sorted(needed - set(values)):
        raise ValueError(f"{key}: {', '.join(missing)} must be given")
    return part(**values)


def _penalty_problem(penalty: Penalty | MicroBatchPenalty | None) -> str | None:
    """Why a penalty cannot be, or None."""
    if penalty is None:
        return None
    if isinstance(penalty, Penalty):
        if penalty.name != "gradient_norm":
            return f"penalty.name = {penalty.name!r}: allowed: gradient_norm, {', '.join(MICRO_BATCH_PENALTIES)}"
        if penalty.variant not in VARIANTS:
            return f"penalty.variant = {penalty.variant!r}: allowed: {', '.join(VARIANTS)}"
        return None
    if penalty.sample is not None and penalty.sample < 1:
        return f"penalty.sample = {penalty.sample!r}: must be at least 1"
    return None if penalty.strength >= 0 else f"penalty.strength = {penalty.strength!r}: must be at least 0"


def _transform_problem(transform: Transform | None) -> str | None:
    """Why a transform cannot be, or None."""
    if transform is None:
        return None
    if transform.name not in TRANSFORMS:
        return f"transform.name = {transform.name!r}: allowed: {', '.join(TRANSFORMS)}"
    if transform.reference is not None and not is_name(transform.reference):
        return f"transform.reference = {transform.reference!r}: {NEEDED}"
    if (transform.name == "exter_graft") != (transform.reference is not None):
        return f"transform.reference = {transform.reference!r}: exter_graft names a run, the others none"
    return None


def precision_problem(spec: RunSpec) -> str | None:
    """Why the run's precision cannot be, or None.

    The step of a difference moves the median weight by 6e-5 of its size; in bf16, with 8 bits, 4 % of the weights
    change at all.
    """
    if spec.precision == "bf16" and spec.penalty is not None and not spec.penalty.exact:
        why = "a difference of bf16 gradients is noise; allowed: fp32, tf32, auto, or the penalty's variant exact"
        return f"precision = {spec.precision!r}: {why}"
    return None


def in_lockstep(specs: Sequence[RunSpec]) -> bool:
    """Whether runs can be trained together: plain mini-batch SGD of fully connected networks, equal but for seeds."""
    spec = specs[0]
    extras = (spec.penalty, spec.transform, spec.clip, spec.store, spec.watch)
    plain = spec.blocks_per_step == 1 and all(extra is None for extra in extras) and not spec.held_out
    same = {replace(other, seed=0) for other in specs}
    return plain and (architecture(spec.model) or ("",))[0] == "fc" and len(same) == 1


def resolved_precision(spec: RunSpec, device: str) -> str:
    """What `precision` means on a device ("cpu" or "cuda").

    "auto" is fp32 on a CPU; on a GPU it is bf16, and tf32 for a penalty of differences, which bf16 turns to noise.
    """
    if spec.precision != "auto":
        return spec.precision
    if device != "cuda":
        return "fp32"
    return "bf16" if spec.penalty is None or spec.penalty.exact else "tf32"


def trained_images(spec: RunSpec, images: int) -> int:
    """How many of the data set's training images are trained on; the rest, held out, comes last."""
    return images - round(spec.held_out * images)


def total_steps(spec: RunSpec, train_images: int) -> int:
    """Optimizer steps of the run; `train_images` are those trained on, here and below."""
    return spec.steps or spec.epochs * steps_per_epoch(spec, train_images)


def epoch_images(spec: RunSpec, train_images: int) -> int:
    """Images of one epoch, for a training set of `train_images`: all stored copies for full batch, else one."""
    return train_images * (spec.store.copies if spec.store and spec.full_batch else 1)


def steps_per_epoch(spec: RunSpec, train_images: int) -> int:
    """Optimizer steps of one epoch, for a training set of `train_images` (the last may have fewer blocks)."""
    blocks = blocks_per_epoch(spec, train_images)
    return 1 if spec.full_batch else -(-blocks // spec.blocks_per_step)


def blocks_per_epoch(spec: RunSpec, train_images: int) -> int:
    """Blocks of one epoch; a last one that is not full counts unless `drop_last`."""
    images = epoch_images(spec, train_images)
    return images // spec.block if spec.drop_last else -(-images // spec.block)
