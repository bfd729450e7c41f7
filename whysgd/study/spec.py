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
LOSSES = ("cross_entropy", "linear_hinge", "incorrect_cross_entropy", "max_up")
# Augmented copies of an image of which the loss max_up takes the largest.
MAX_UP = 10


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
    shuffle_copies: Flag = True
    """Keep the images of each copy in an order of its own, drawn once from the store's seed, as the released code
    writes its store; false keeps the data set's order. It decides the micro-batches of runs that do not shuffle: copies
    follow one another, and copy e mod N has each image once, either way.
    """

    @property
    def content(self) -> dict:
        """What decides the file; the order of a copy is applied when it is read."""
        return self.model_dump(exclude={"shuffle_copies"})

    @property
    def name(self) -> str:
        """The name of its file, equal for equal content."""
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
    test: Flag = False
    """Measure the noise of the test set's micro-batches, too."""


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


class Switch(Settings):
    """A change of the batch along the run."""

    at: Count
    """Epochs, or steps, that are made before it, counted from the run's start."""
    unit: Literal["epoch", "step"] = "epoch"
    """Unit of `at`."""
    to: Batch
    """Images of one step from then on; `all` is full batch, `micro_batch` one micro-batch."""


class RunSettings(Settings):
    """What papers/*.yaml say of a run."""

    dataset: Name
    """The images: mnist, cifar10, … or a name of the configuration's `datasets`."""
    model: Method
    """The network: a name of whysgd/models, or a dotted path to what returns an nn.Module."""
    init: Literal["torch", "he_fan_out", "he_fan_in", "vgg"] | None = None
    """How the initial weights are drawn, see docs/methods.md; null takes the network's own, as a dotted path does."""
    batch: Batch
    """Images of one step; `all` is full batch, `micro_batch` one micro-batch, that is plain SGD."""
    micro_batch: Count
    """Images of one micro-batch."""
    switch: tuple[Switch, ...] = ()
    """Changes from stochastic steps to full batch, or back, in order of time. A new epoch begins at each, and what is
    counted in epochs, such as the schedule, goes on counting.
    """
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
    replacement: Flag = False
    """Draw each image of an epoch from all of them, with replacement; needs `shuffle`."""
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
    """Random crop, flip and other transforms; null trains on the images as they are."""
    store: StoredCopies | None = None
    """Train on augmented copies that are drawn once and stored: full batch on all of them, others on copy e mod N in
    epoch e.
    """
    penalty: Annotated[Any, Chosen("penalty")] | None = None
    """Added to the gradient of every micro-batch."""
    transform: Annotated[Any, Chosen("transform", several=True)] | None = None
    """Changes the gradient of a step; a list of transforms is applied in its order."""
    clip: Positive | None = None
    """Largest norm of a step's gradient; null does not clip."""
    micro_batch_clip: Positive | None = None
    """Largest norm of each micro-batch's gradient, penalty included; null does not clip."""
    clip_norm: Literal["l2", "max"] = "l2"
    """The norm that both are of: the L2 norm, or the largest entry."""
    held_out: Annotated[NotNegative, Field(lt=1)] = 0.0
    """Share of the training images, the last ones, that is not trained on and selects the step reported as best."""
    select_every: Count | None = None
    """Steps between two looks at the held-out images alone, the first step being one, beside the evaluations; a scale
    divides it as it does steps.
    """
    probe: Probe | None = None
    """Measure the average micro-batch gradient norm along the run."""
    averaging: Literal["mean", "historical"] = "mean"
    """The true mean over micro-batches, or the released code's before its fix in 2023."""
    precision: Precision = "auto"
    """Precision of the network's arithmetic, in place of the configuration's."""
    loss: Literal[LOSSES] = "cross_entropy"
    """Mean cross entropy; or the mean over images and classes of max(0, 1 - t f), t = +1 for the label and -1 else; or
    cross entropy, counted as 0 where the image is classified correctly; or the largest of ten augmented copies of an
    image. History and measures have plain cross entropy for the last two.
    """
    label_smoothing: Annotated[NotNegative, Field(lt=0.5)] = 0.0
    """Share of the label's weight in the cross entropy that the other classes get, in training alone."""
    stop_accuracy: Annotated[NotNegative, Field(le=100)] | None = None
    """End the run when a look finds this training accuracy, in percent, or more."""
    stop_every: Count | None = None
    """Steps between two looks at that accuracy; null looks at the evaluations."""
    stop_after: Count = 1
    """Looks in a row that must find it."""
    ema: Annotated[Positive, Field(lt=1)] | None = None
    """Momentum of an exponential moving average of weights and running statistics, moved at the end of each epoch, of
    which full batch makes one in a step. History, saved weights and measures are of the average; null takes none.
    """
    test_time_flips: Flag = False
    """Evaluate, for the history, the mean of the probabilities that an image and its mirror image are given."""
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
            f"clip = {self.clip!r}: cannot be given beside a transform; name clip among the transforms": (
                self.clip and self.transform
            ),
            "micro_batch_clip: cannot be given beside a penalty that is sampled": (
                self.micro_batch_clip and getattr(self.penalty, "sample", None)
            ),
            "stop_after: needs stop_accuracy": self.stop_after > 1 and self.stop_accuracy is None,
            "test_time_flips: has probabilities, which linear_hinge is not of": (
                self.test_time_flips and self.loss == "linear_hinge"
            ),
            "replacement: needs shuffle": self.replacement and not self.shuffle,
            "transform: names one twice": len({one.name for one in self.transforms}) < len(self.transforms),
            switch_problem(self): switch_problem(self),
            loss_problem(self): loss_problem(self),
            f"held_out = {self.held_out!r}: cannot be given beside stored copies": self.held_out and self.store,
            f"select_every = {self.select_every!r}: needs held_out": self.select_every and not self.held_out,
            "optimizer: its options are its own; set momentum: 0, nesterov: false, weight_decay: 0 beside it": (
                optimizer and plain
            ),
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
    def measured_loss(self) -> str:
        """The loss that history and measures have: without what only training adds to cross entropy."""
        return "linear_hinge" if self.loss == "linear_hinge" else "cross_entropy"

    @property
    def micro_batches_per_step(self) -> int | None:
        """Micro-batches of one step; None stands for all."""
        return None if self.full_batch else self.batch // self.micro_batch

    @property
    def reference(self) -> str | None:
        """The run of the same paper whose gradient norms are grafted onto this one."""
        return next((one.reference for one in self.transforms if hasattr(one, "reference")), None)

    @property
    def transforms(self) -> tuple[MethodSettings, ...]:
        """The transforms of a step's gradient, in order, without `clip`."""
        return self.transform if isinstance(self.transform, tuple) else (self.transform,) if self.transform else ()

    @property
    def parts(self) -> tuple[tuple[str, str], ...]:
        """The kind and name of everything of the registry that the run uses; its code digest covers them."""
        optimizer = self.optimizer.name if self.optimizer else "sgd"
        named = [("network", self.model), ("optimizer", optimizer), ("schedule", self.schedule.decay)]
        named += [("penalty", self.penalty.name)] if self.penalty else []
        named += [("transform", one.name) for one in self.transforms]
        named += [("augmentation", one.path) for one in (self.augment.transforms if self.augment else ())]
        return tuple(named + [("transform", "clip")] * bool(self.clip or self.micro_batch_clip))

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


def switch_problem(spec: RunSpec) -> str | None:
    """Return why a run's batch cannot change as it says, or None."""
    before = 0
    for index, one in enumerate(spec.switch):
        if one.unit != spec.switch[0].unit:
            return f"switch[{index}].unit = {one.unit!r}: must be that of all, {spec.switch[0].unit!r}"
        end = spec.epochs if one.unit == "epoch" else spec.steps
        if one.at <= before or (end and one.at >= end):
            return f"switch[{index}].at = {one.at}: must be later than the one before, and before the run's end"
        if one.to not in (FULL_BATCH, ONE_MICRO_BATCH) and one.to % spec.micro_batch:
            return f"switch[{index}].to = {one.to}: must be a multiple of the micro-batch, {spec.micro_batch}"
        before = one.at
    return None


def loss_problem(spec: RunSpec) -> str | None:
    """Return why a run's loss does not go with its other settings, or None."""
    if spec.label_smoothing and spec.loss == "linear_hinge":
        return "label_smoothing: is of cross entropy, not of linear_hinge"
    if spec.loss == "max_up" and spec.augment is None:
        return "loss = 'max_up': needs augment; without, all copies of an image are the same"
    if spec.loss == "max_up" and (spec.probe or spec.noise):
        return "loss = 'max_up': cannot be given beside probe or noise, which see each image once"
    if spec.penalty and spec.penalty.name == "fisher_trace" and (spec.label_smoothing or spec.loss not in LOSSES[:2]):
        return "penalty = 'fisher_trace': needs the plain cross entropy, of which the predicted labels are"
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
