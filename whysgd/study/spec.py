"""What one run is: a frozen specification of everything that determines its result.

This module never imports torch; the workflow reads it at parse time.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, WithJsonSchema, model_validator

from whysgd.files import digest_of
from whysgd.study.fields import Chosen
from whysgd.study.settings import (
    Augmentation,
    Count,
    Few,
    Flag,
    Index,
    Method,
    MethodSettings,
    Name,
    NotNegative,
    Positive,
    Precision,
    Real,
    Settings,
    refuse,
)
from whysgd.study.validation import Problems, problems_of

# What papers/ may say for a batch, beside numbers: every image, or a single micro-batch.
FULL_BATCH, ONE_MICRO_BATCH = "all", "micro_batch"


class StoredCopies(Settings):
    """Augmented copies of the training images, drawn once and then fixed; see `whysgd.data.build_store`."""

    copies: Count
    """Copies of each image, N."""
    crop_padding: Index
    """Pixels of zeros around the image before the crop."""
    flip: Flag
    """Flip left and right with probability 1/2."""
    seed: Index = 0
    """Seed of the draws; one store serves all runs."""
    clean_first: Flag = False
    """Let the first copy be the images as they are."""

    @property
    def name(self) -> str:
        """The name of its file, equal for equal values."""
        parts = [f"x{self.copies}", f"crop{self.crop_padding}", f"seed{self.seed}"]
        return "-".join(parts + ["flip"] * self.flip + ["clean"] * self.clean_first)


class Normalization(Settings):
    """Mean and standard deviation of each channel on the scale 0 to 1."""

    mean: Annotated[tuple[Real, ...], Field(min_length=1)]
    """Mean of each channel."""
    std: Annotated[tuple[Positive, ...], Field(min_length=1)]
    """Standard deviation of each channel."""


class Probe(Settings):
    """A probe of the average micro-batch gradient norm, for the history alone."""

    every: Count
    """Steps between two lines, the first step being one."""
    micro_batch: Count
    """Images of one micro-batch."""
    micro_batches: Count
    """Micro-batches drawn for one line."""


class NoiseProbe(Settings):
    """Measurements of the gradient noise along the run, with its tail index."""

    points: Few
    """Measured steps, evenly spread on a log scale, beside the start and the last step."""


def _batch(value):
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole and value not in (FULL_BATCH, ONE_MICRO_BATCH):
        refuse("must be a whole number, `all` or `micro_batch`")
    return value if not whole or value >= 1 else refuse("must be at least 1")


Batch = Annotated[
    Any,
    AfterValidator(_batch),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"enum": ["all", "micro_batch"]}]}),
]


class RunSettings(Settings):
    """What papers/*.yaml say of a run."""

    dataset: Name
    """The images: mnist, cifar10, … or a name of the configuration's `datasets`."""
    model: Method
    """The network: a name of whysgd/models, or a dotted path to what returns an nn.Module."""
    batch: Batch
    """Images of one step; `all` is full batch, `micro_batch` one micro-batch, that is plain SGD."""
    micro_batch: Count
    """Images of one micro-batch."""
    lr: Positive
    """Peak learning rate."""
    schedule: Annotated[Any, Chosen("schedule")]
    """Course of the learning rate."""
    epochs: Count | None = None
    """Passes over the training set; full batch makes one step in each."""
    steps: Count | None = None
    """Optimizer steps, instead of epochs."""
    shuffle: Flag = False
    """Draw a new order in every epoch; otherwise keep the data set's."""
    drop_last: Flag = True
    """Leave out a last micro-batch that is not full."""
    momentum: Annotated[NotNegative, Field(lt=1)] = 0.0
    """Momentum of SGD."""
    nesterov: Flag = False
    """Use Nesterov's momentum."""
    weight_decay: NotNegative = 0.0
    """Coupled weight decay of SGD."""
    optimizer: Annotated[Any, Chosen("optimizer")] | None = None
    """Another optimizer, with its settings; null takes SGD with the three above."""
    normalize: Normalization | None = None
    """Mean and std of each channel; null takes the training set's own."""
    augment: Augmentation | None = None
    """Random crop and flip; null trains on the images as they are."""
    store: StoredCopies | None = None
    """Train on augmented copies that are drawn once and stored: full batch on all of them, others on copy e mod N in
    epoch e.
    """
    penalty: Annotated[Any, Chosen("penalty")] | None = None
    """Added to the gradient of every micro-batch."""
    transform: Annotated[Any, Chosen("transform")] | None = None
    """Scales the gradient of a step."""
    clip: Positive | None = None
    """Largest L2 norm of a step's gradient; null does not clip."""
    held_out: Annotated[NotNegative, Field(lt=1)] = 0.0
    """Share of the training images, the last ones, that is not trained on and selects the step reported as best."""
    probe: Probe | None = None
    """Measure the average micro-batch gradient norm along the run."""
    averaging: Literal["mean", "historical"] = "mean"
    """The true mean over micro-batches, or the released code's before its fix in 2023."""
    precision: Precision = "auto"
    """Precision of the network's arithmetic, in place of the configuration's."""
    loss: Literal["cross_entropy", "linear_hinge"] = "cross_entropy"
    """Mean cross entropy, or the mean over images and classes of max(0, 1 - t f), t = +1 for the label and -1 else."""
    stop_accuracy: Annotated[NotNegative, Field(le=100)] | None = None
    """End the run at the first evaluation that finds this training accuracy, in percent, or more."""
    noise: NoiseProbe | None = None
    """Measure the gradient noise along the run."""


class RunSpec(RunSettings):
    """Everything that determines the result of one run, and nothing else.

    A step consumes `batch` images in micro-batches of `micro_batch`: equal numbers are SGD, the whole training set
    ("all") is full batch. An epoch is one pass over the training set; over stored copies of it, full batch takes
    them all in each.
    """

    paper: Name
    """The paper that the run belongs to."""
    run: Name
    """Its name there."""
    scale: Name
    """The scale at which it is run."""
    seed: Index = 0
    """Seed of all its random streams."""
    evaluations: Few = 20
    """Lines of the history with losses and accuracies."""

    @model_validator(mode="after")
    def _fits(self):
        batch, micro_batch, optimizer = self.batch, self.micro_batch, self.optimizer
        plain = self.momentum or self.nesterov or self.weight_decay
        uneven = not self.full_batch and batch != ONE_MICRO_BATCH and batch % micro_batch
        problems = {
            "batch = 'micro_batch': must be a number of images, or `all`": batch == ONE_MICRO_BATCH,
            f"batch = {batch}: must be a multiple of the micro-batch, {micro_batch}": uneven,
            "epochs: either epochs or steps must be given": (self.epochs is None) == (self.steps is None),
            f"clip = {self.clip!r}: cannot be given beside a transform": self.clip and self.transform,
            f"held_out = {self.held_out!r}: cannot be given beside stored copies": self.held_out and self.store,
            "optimizer: is not SGD, which momentum, nesterov and weight_decay are of": optimizer and plain,
            precision_problem(self): precision_problem(self),
        }
        for problem, there in problems.items():
            if there:
                raise ValueError(problem)
        return self

    @property
    def full_batch(self) -> bool:
        """Whether each step takes every image."""
        return self.batch == FULL_BATCH

    @property
    def micro_batches_per_step(self) -> int | None:
        """Micro-batches of one step; None stands for all."""
        return None if self.full_batch else self.batch // self.micro_batch

    @property
    def reference(self) -> str | None:
        """The run of the same paper whose gradient norms are grafted onto this one."""
        return getattr(self.transform, "reference", None)

    @property
    def parts(self) -> tuple[tuple[str, str], ...]:
        """The kind and name of everything of the registry that the run uses; its code digest covers them."""
        optimizer = self.optimizer.name if self.optimizer else "sgd"
        named = [("network", self.model), ("optimizer", optimizer), ("schedule", self.schedule.decay)]
        named += [(kind, chosen.name) for kind in ("penalty", "transform") if (chosen := getattr(self, kind))]
        return tuple(named + [("transform", "clip")] * (self.clip is not None))

    def to_dict(self) -> dict:
        """Return the specification as JSON-able values; `from_dict` reads it back."""
        return self.model_dump(mode="json")

    @classmethod
    def from_dict(cls, values: Mapping) -> "RunSpec":
        """Read what `to_dict` wrote.

        Raises:
            ValueError: an unknown or missing key, or a value that no run can have; one line.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise Problems(problems_of(error, cls)) from None

    @property
    def digest(self) -> str:
        """Equal for equal specifications."""
        return digest_of(self.to_dict())


def precision_problem(spec: RunSpec) -> str | None:
    """Return why the run's precision cannot be, or None.

    The step of a difference moves the median weight by 6e-5 of its size; in bf16, with 8 bits, 4 % of the weights
    change at all.
    """
    if spec.precision == "bf16" and spec.penalty is not None and not is_exact(spec.penalty):
        why = "a difference of bf16 gradients is noise; allowed: fp32, tf32, auto, or the penalty's variant exact"
        return f"precision = {spec.precision!r}: {why}"
    if spec.precision == "bf16" and ":" in spec.model:
        return f"precision = 'bf16': {spec.model} has torch's own layers; allowed: fp32, tf32, auto"
    return None


def is_exact(penalty: MethodSettings) -> bool:
    """Return whether a penalty is differentiated, and not a difference of gradients."""
    return getattr(penalty, "exact", True)


def resolved_precision(spec: RunSpec, device: str) -> str:
    """Return what `precision` means on a device ("cpu" or "cuda").

    "auto" is fp32 on a CPU; on a GPU it is bf16, but tf32 for a penalty of differences, which bf16 turns to noise, and
    for a network of a dotted path, whose layers do not convert their weights.
    """
    if spec.precision != "auto":
        return spec.precision
    if device != "cuda":
        return "fp32"
    exact = spec.penalty is None or is_exact(spec.penalty)
    return "bf16" if exact and ":" not in spec.model else "tf32"


def trained_images(spec: RunSpec, images: int) -> int:
    """Return how many of the training images are trained on; the rest, held out, comes last."""
    return images - round(spec.held_out * images)


def total_steps(spec: RunSpec, train_images: int) -> int:
    """Return the optimizer steps of the run; `train_images` are those trained on, here and below."""
    return spec.steps or spec.epochs * steps_per_epoch(spec, train_images)


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
