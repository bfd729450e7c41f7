"""What stays the same in a run: its network, its course, and the images to train and to measure on."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from whysgd.data.augmentation import Normalizer
from whysgd.data.canonical import Dataset
from whysgd.data.loader import place
from whysgd.errors import UserError
from whysgd.measures.accuracy import evaluate, logits_at
from whysgd.models.build import build_model
from whysgd.study.length import misfit, phases, total_steps, trained_images
from whysgd.study.spec import RunSpec
from whysgd.training.checkpoint import State
from whysgd.training.device import allow_tf32, engine_on, precision_on, with_index
from whysgd.training.engine import Engine
from whysgd.training.grouping import choose_grouping
from whysgd.training.inputs import NOTHING, Inputs
from whysgd.training.noise_log import noise_steps
from whysgd.training.objective import Objective
from whysgd.training.optimizers import optimizer_of
from whysgd.training.penalties import penalty_of
from whysgd.training.ranks import ALONE, Ranks
from whysgd.training.results import now
from whysgd.training.transforms import clip_of, transforms_of


@dataclass(frozen=True)
class Options:
    """How a batch is trained; none of this decides a result.

    Attributes:
        device: where to train.
        checkpoint_seconds: time between two checkpoints.
        engine: "eager", operation by operation; "compiled", by a compiler; "auto": compiled on a GPU, eager on a CPU.
        images_on: "device", "host" or "auto", see `whysgd.data.loader.place`.
        tensorboard: write each history as event files, too, see `whysgd.training.events`.
        together: pairs of a seed and a micro-batch that share a pass, at most; None chooses, 1 is the plain loop.
    """

    device: str | torch.device = "cpu"
    checkpoint_seconds: float = 30.0
    engine: str = "auto"
    images_on: str = "auto"
    tensorboard: bool = False
    together: int | None = None


class Setup:
    """A run with some of its seeds, in memory; nothing here touches the disk.

    Args:
        specs: of a run, one for each seed.
        dataset: the canonical data set it names.
        options: device, engine and the like.
        inputs: what else it is trained on.
        ranks: the processes that share each step's micro-batches.
        dtype: of weights and sums, and, unless the precision is lower, of all arithmetic.

    Attributes:
        states: how each seed begins.
        phases: the parts of the run with steps of one size; the loop keeps the current one as `phase`.

    Raises:
        UserError: the run does not fit the images, or the device.
    """

    def __init__(
        self, specs: Sequence[RunSpec], dataset: Dataset, options: Options = Options(), inputs: Inputs = NOTHING,
        ranks: Ranks = ALONE, dtype=torch.float32,
    ):  # fmt: skip
        self.specs, self.spec, self.ranks, self.options = list(specs), specs[0], ranks, options
        self.seeds, self.device = [spec.seed for spec in specs], with_index(torch.device(options.device))
        spec, device = self.spec, self.device
        self.count = trained_images(spec, len(dataset.train.labels))
        check_fit(spec, dataset, inputs, self.count)
        # The network, and what computes its gradients.
        self.precision, self.engine_name = precision_on(spec, device), engine_on(options.engine, device)
        images, self.classes = dataset.train.images[: self.count], len(dataset.manifest["classes"])
        statistics = dict(spec.normalize) if spec.normalize else dataset.manifest
        self.normalize = Normalizer(statistics["mean"], statistics["std"], dtype, device)
        build = partial(build_model, spec.model, images.shape[1], self.classes, size=images.shape[2], init=spec.init)
        models = [build(seed=seed).to(device, dtype) for seed in self.seeds]
        lower = torch.bfloat16 if self.precision == "bf16" else None
        self.objective = Objective(models[0], lower, spec.loss, spec.label_smoothing)
        check_constants(spec, self.objective, models)
        self.pixels = images.shape[2] * images.shape[3]
        penalty = penalty_of(spec.penalty) if spec.penalty else None
        self.draw = penalty and getattr(penalty.func, "draw", None)
        self.sampled = getattr(spec.penalty, "sample", None)
        self.plain = self._engine(spec.micro_batch)
        # A penalty that is sampled has a pass of its own.
        clip = clip_of(spec, spec.micro_batch_clip)
        # What is clipped, too, is the gradient that a penalty needs beforehand.
        self.first = self._engine(spec.micro_batch, clip=clip) if clip else self.plain
        needs_penalty = penalty and not self.sampled
        self.engine = self._engine(spec.micro_batch, penalty, clip=clip) if needs_penalty else self.first
        self.sampler = self._engine(self.sampled, penalty, penalty_alone=True) if self.sampled else None
        needed = getattr(penalty and penalty.func, "needs_full_gradient", None)
        self.needs_full_gradient = bool(needed and needed(spec.penalty))
        self.transforms, self.optimizer = transforms_of(spec), optimizer_of(spec, self.objective.parameters)
        # The course of the run.
        self.phases, self.total = phases(spec, self.count), total_steps(spec, self.count)
        points = min(spec.evaluations, self.total)
        self.evaluation_steps = {round((i + 1) * self.total / points) for i in range(points)}
        self.noise_steps = noise_steps(spec.noise.points, self.total) if spec.noise else set()
        self.reference_norms = None if inputs.norms is None else torch.from_numpy(inputs.norms).to(device, dtype)
        # The images to train on, and to measure on.
        labels = {name: torch.from_numpy(getattr(dataset, name).labels).to(device) for name in ("train", "test")}
        train, test = (place(part.images, device, options.images_on) for part in (dataset.train, dataset.test))
        self.data = {"train": (train[: self.count], labels["train"][: self.count])}
        if spec.held_out:
            self.data["validation"] = (train[self.count :], labels["train"][self.count :])
        self.data["test"] = (test, labels["test"])
        copies = inputs.copies
        self.images = self.data["train"][0] if copies is None else place(copies, device, options.images_on)
        self.labels = torch.from_numpy(dataset.train.labels[: self.count])
        self.states = [self._start(model) for model in models]

    def _engine(self, images: int, penalty=None, penalty_alone: bool = False, clip=None) -> Engine:
        compiled = self.engine_name == "compiled"
        return Engine(self.objective, penalty, self.most_for(images), self.normalize, compiled, penalty_alone, clip)

    def most_for(self, images: int) -> int:
        """Return how many micro-batches of so many images share a pass, those of all seeds counted."""
        if ":" in self.spec.model:
            # Layers from elsewhere have weights of one seed alone.
            return 1
        return self.options.together or choose_grouping(self.objective, images, self.pixels)

    def _start(self, model: torch.nn.Module) -> State:
        objective, named = self.objective, {name: p.detach() for name, p in model.named_parameters()}
        theta, buffers = objective.parameters.vector(named), objective.buffers
        running = buffers.vector(dict(model.named_buffers())).clone() if buffers.names else theta[:0]
        average = torch.cat([theta, running]) if self.spec.ema else theta[:0]
        return State(theta, running, theta.new_zeros(self.total), started=now(), average=average)

    @property
    def engine_used(self) -> str:
        """The engine, or what stands in for it where there is no compiler."""
        return "compiled" if self.engine.compiled else "eager"

    def looks_whether_to_stop(self, step: int) -> bool:
        """Return whether the run looks after this step whether it has reached the accuracy that ends it."""
        every = self.spec.stop_every
        return self.spec.stop_accuracy is not None and (
            step in self.evaluation_steps if every is None else not step % every
        )

    def has_line(self, step: int) -> bool:
        """Return whether the history has a line for this step, counted from 1."""
        probe = self.spec.probe
        probed = probe is not None and (step - 1) % probe.every == 0
        return step in self.evaluation_steps or probed or self.selects(step)

    def selects(self, step: int) -> bool:
        """Return whether the held-out images are looked at after this step, counted from 1, beside evaluations."""
        return self.spec.select_every is not None and (step - 1) % self.spec.select_every == 0

    def measured(self, theta: torch.Tensor, running: torch.Tensor, splits: Iterable[str] | None = None) -> dict:
        """Return losses and accuracies on these splits, or on all, in fp32 whatever the precision."""
        found = {}
        allow_tf32(False)
        logits = logits_at(self.objective, theta, running, self.normalize, self.spec.test_time_flips)
        for split in splits or self.data:
            measured = evaluate(logits, *self.data[split], self.spec.measured_loss)
            found |= {f"{split}_{key}": value for key, value in measured.items()}
        return found

    def evaluated(self, state: State) -> tuple[torch.Tensor, ...]:
        """Return θ (P,) and running statistics (Q,) to evaluate and save: the averages, of a run that has them."""
        sizes = [len(state.theta), len(state.running)]
        return state.average.split(sizes) if self.spec.ema else (state.theta, state.running)

    def tensors(self, state: State, best: bool = False) -> dict[str, torch.Tensor]:
        """Return a seed's state dict, or that of its best step: weights, running statistics, counters and constants."""
        objective = self.objective
        theta, running = (state.best["theta"], state.best["running"]) if best else self.evaluated(state)
        micro_batches = state.selected["micro_batches"] if best else state.micro_batches
        named = {**objective.parameters.views(theta), **objective.buffers.views(running)}
        counters = {name: torch.tensor(micro_batches) for name in objective.counters}
        return {name: tensor.cpu().clone() for name, tensor in {**named, **counters, **objective.constants}.items()}


def check_constants(spec: RunSpec, objective: Objective, models: Sequence[torch.nn.Module]) -> None:
    """Refuse networks whose constant buffers differ between seeds: all seeds have those of the first."""
    for model in models[1:]:
        own = dict(model.named_buffers())
        if not all(torch.equal(own[name], tensor) for name, tensor in objective.constants.items()):
            each = "each seed needs a job of its own (seeds_per_job: 1)"
            raise UserError(f"{spec.run}: model = {spec.model!r}: its constant buffers differ between seeds; {each}")


def lock_folder(out: Path) -> FileLock:
    """Make and lock the folder of a batch.

    Raises:
        UserError: another process trains in it, or it cannot be made.
    """
    lock = FileLock(out / ".lock", timeout=0)
    try:
        out.mkdir(parents=True, exist_ok=True)
        return lock.acquire()
    except Timeout:
        raise UserError(f"{out}: another process is training in this folder; wait for it or end it") from None
    except OSError as error:
        raise UserError(f"{out}: cannot be used as the run's folder ({error.strerror or error})") from None


def check_fit(spec: RunSpec, dataset: Dataset, inputs: Inputs, count: int) -> None:
    """Refuse a run that does not fit its images, or lacks what it needs.

    Raises:
        UserError: in one line.
    """
    if spec.store and inputs.copies is None:
        raise UserError(f"{spec.run}: store: the run needs its stored copies")
    if spec.reference and inputs.norms is None:
        raise UserError(f"{spec.run}: transform: the run needs the gradient norms of {spec.reference}")
    if wrong := misfit(spec, len(dataset.train.labels)):
        key, value, allowed = wrong
        raise UserError(f"{spec.run}: {key} = {value!r}: {allowed}")
    fewest = min(count, len(dataset.test.labels)) if spec.noise and spec.noise.test else count
    if spec.noise is not None and fewest < 2 * spec.micro_batch:
        raise UserError(
            f"{spec.run}: noise: needs two full micro-batches of {spec.micro_batch} images, there are {fewest} images"
        )
    channels = dataset.train.images.shape[1]
    if spec.normalize and not len(spec.normalize.mean) == len(spec.normalize.std) == channels:
        raise UserError(f"{spec.run}: normalize: has {len(spec.normalize.mean)} channels, the images have {channels}")
