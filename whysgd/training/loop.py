"""The training loop.

`train` loads a batch of seeds, makes their steps, and writes what they leave. `Trainer.step` is one step of all seeds:
learning rate, micro-batches, gradient and penalty, transforms, optimizer. `Trainer.after_step` writes the history and
sees which seeds have ended; `make_steps` repeats the two, with checkpoints.
"""

import math
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout

from whysgd.data.augmentation import Normalizer
from whysgd.data.canonical import Dataset, load_dataset
from whysgd.data.loader import DataLoader, place
from whysgd.data.micro_batches import step_range
from whysgd.errors import UserError
from whysgd.files import digest_of
from whysgd.measures.accuracy import evaluate
from whysgd.models.build import build_model
from whysgd.results.paths import METRICS, batch_name, dataset_folder, run_folder
from whysgd.streams import stream
from whysgd.study.codedigest import code_digest
from whysgd.study.spec import (
    RunSpec,
    blocks_per_epoch,
    epoch_images,
    steps_per_epoch,
    total_steps,
    trained_images,
)
from whysgd.training.checkpoint import (
    HISTORY_COLUMNS,
    Batch,
    State,
    load_checkpoint,
    remove_checkpoint,
    save_checkpoint,
)
from whysgd.training.device import allow_tf32, engine_on, precision_on, with_index
from whysgd.training.divergence import DivergenceCheck
from whysgd.training.engine import Engine, Step
from whysgd.training.events import Events
from whysgd.training.grouping import choose_grouping
from whysgd.training.inputs import Inputs, read_inputs
from whysgd.training.noise_log import measured_noise, noise_steps
from whysgd.training.objective import Objective
from whysgd.training.optimizers.sgd import sgd
from whysgd.training.penalties import penalty_of
from whysgd.training.probe import micro_batch_norms2
from whysgd.training.progress import Progress
from whysgd.training.ranks import ALONE, Ranks, join_ranks, leave_ranks
from whysgd.training.results import finished_metrics, now, write_results
from whysgd.training.schedules import learning_rate
from whysgd.training.stopping import StopRequest, stop_requests
from whysgd.training.transforms import Context, transforms_of


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


def train(
    specs: Sequence[RunSpec],
    data: Path | None = None,
    out: Path | None = None,
    options: Options = Options(),
    store: Path | None = None,
    norms: Sequence[Path] = (),
) -> list[dict]:
    """Train some seeds of a run to their end and write the results into one folder.

    These are metrics.json, history.csv, gradient_norms.csv, model.safetensors, noise.csv, layers.csv and
    noise_norms.csv, each with the seed as a key or a column. A batch that is finished already is left alone.

    SIGTERM, SIGINT, SIGHUP and SIGUSR1 end it after the step under way, with a checkpoint. An interrupted batch resumes
    from its checkpoint and, on a CPU with as many threads, ends bit-identical to an uninterrupted one, apart from
    times. A loss that is not finite ends a seed as a result marked `diverged`. Under torchrun every rank calls this
    with the same arguments; the result is that of one process up to rounding, and any number of ranks may resume.

    Args:
        specs: of a run, one for each seed.
        data: folder of the canonical data set; None takes the workflow's, here and below.
        out: folder of the batch.
        options: device and engine.
        store: file of the stored copies, for a run on such.
        norms: logs of the run whose gradient norms are grafted, for a run that does so.

    Returns:
        the metrics of each seed; none on ranks that do not lead.

    Raises:
        UserError: the data or a log are damaged or missing, another process trains in the same folder, a micro-batch is
            too small for batch norm, or another rank has died.
        StopSignal: by such a signal.
    """
    if len({replace(spec, seed=0) for spec in specs}) != 1:
        raise ValueError("a batch has the seeds of one run")
    spec, begin = specs[0], time.process_time()
    out = out or run_folder(spec.scale, spec.paper, spec.run) / batch_name([spec.seed for spec in specs])
    ranks, device = join_ranks(torch.device(options.device))
    try:
        with ExitStack() as held:
            if ranks.leads:
                held.enter_context(_lock(out))
            asked = held.enter_context(stop_requests())
            dataset = load_dataset(data or dataset_folder(spec.dataset))
            inputs, code = read_inputs(specs, dataset, store, norms), code_digest(__name__)
            finished = finished_metrics(specs, out, code, inputs.sources)
            identity = digest_of({"code": code, "specs": [spec.to_dict() for spec in specs], **inputs.sources})
            states = load_checkpoint(out, identity, device) if finished is None else None
            # Nobody writes before everybody has read.
            ranks.wait()
            if finished is not None:
                print(f"{out}: finished already; remove {METRICS} there to train again", file=sys.stderr)
                return finished if ranks.leads else []
            trainer = Trainer(specs, dataset, replace(options, device=device), inputs, ranks)
            trainer.resume(states or trainer.states)
            make_steps(trainer, out, identity, options, asked)
            if not ranks.leads:
                return []
            seconds = time.process_time() - begin
            metrics = write_results(trainer, dataset.manifest, out, code, inputs.sources, seconds)
            remove_checkpoint(out)
            return metrics
    except RuntimeError as error:
        if ranks.size == 1 or not any(word in str(error).lower() for word in ("gloo", "nccl", "connection", "peer")):
            raise
        raise UserError(f"{out}: rank {ranks.rank}: another rank has ended; start again to continue") from None
    finally:
        leave_ranks()


def _lock(out: Path) -> FileLock:
    """Make and lock the folder of a batch."""
    lock = FileLock(out / ".lock", timeout=0)
    try:
        out.mkdir(parents=True, exist_ok=True)
        return lock.acquire()
    except Timeout:
        raise UserError(f"{out}: another process is training in this folder; wait for it or end it") from None
    except OSError as error:
        raise UserError(f"{out}: cannot be used as the run's folder ({error.strerror or error})") from None


def make_steps(trainer: "Trainer", out: Path, identity: str, options: Options, asked: StopRequest) -> None:
    """Make the steps that are left, with histories and checkpoints, until every seed has ended."""
    ranks, seeds = trainer.ranks, trainer.seeds
    shown = ExitStack()
    if ranks.leads:
        name = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]}-{seeds[-1]}"
        done = max(state.step for state in trainer.states)
        trainer.progress = Progress(f"{trainer.spec.paper}/{trainer.spec.run} {name}", trainer.total, done)
        shown.callback(trainer.progress.close)
        for seed, state in zip(seeds, trainer.states, strict=True) if options.tensorboard else ():
            trainer.events[seed] = Events(out / f"seed-{seed}", state.history)
            shown.callback(trainer.events[seed].close)
    last = time.monotonic()
    with shown:
        while trainer.batch is not None:
            trainer.after_step(trainer.step())
            if not ranks.leads:
                continue
            # A diverged state is not saved before it is known to be one: continued from, it would not look diverged.
            saved = (asked or time.monotonic() - last >= options.checkpoint_seconds) and trainer.check.unread_finite()
            if saved:
                save_checkpoint(out, trainer.states, identity)
                last = time.monotonic()
                trainer.tick = time.perf_counter()
            # Who has made the last step only has its results to write.
            if asked and trainer.batch is not None:
                asked.obey(f"{out}: step {trainer.batch.step}", saved)


class Trainer:
    """Some seeds of a run in memory: data, network and states. Nothing here touches the disk.

    Args:
        specs: of a run, one for each seed.
        dataset: the canonical data set it names.
        options: device, engine and the like.
        inputs: what else it is trained on.
        ranks: the processes that share each step's micro-batches.
        dtype: of weights and sums, and, unless the precision is lower, of all arithmetic.

    Attributes:
        states: one for each seed.
        batch: the states of the seeds that have not ended; None if all have.

    Raises:
        UserError: the run does not fit the images, or the device.
    """

    def __init__(
        self, specs: Sequence[RunSpec], dataset: Dataset, options: Options = Options(), inputs: Inputs = Inputs(),
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
        statistics = asdict(spec.normalize) if spec.normalize else dataset.manifest
        self.normalize = Normalizer(statistics["mean"], statistics["std"], dtype, device)
        shape = (images.shape[1], self.classes)
        models = [build_model(spec.model, *shape, seed, images.shape[2]).to(device, dtype) for seed in self.seeds]
        self.objective = Objective(models[0], torch.bfloat16 if self.precision == "bf16" else None, spec.loss)
        self.pixels = images.shape[2] * images.shape[3]
        penalty = penalty_of(spec.penalty) if spec.penalty else None
        self.draw = penalty and getattr(penalty.func, "draw", None)
        self.sampled = getattr(spec.penalty, "sample", None)
        self.plain = self._engine(spec.block)
        # A penalty that is sampled has a pass of its own.
        self.engine = self._engine(spec.block, penalty) if penalty and not self.sampled else self.plain
        self.sampler = self._engine(self.sampled, penalty, penalty_alone=True) if self.sampled else None
        needed = getattr(penalty and penalty.func, "needs_full_gradient", None)
        self.needs_full_gradient = bool(needed and needed(spec.penalty))
        self.transforms = transforms_of(spec)
        # The course of the run.
        self.micro_batches = blocks_per_epoch(spec, self.count)
        self.steps_per_epoch, self.total = steps_per_epoch(spec, self.count), total_steps(spec, self.count)
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
        self.progress, self.events, self.loader = None, {}, None
        self.resume([self._start(model) for model in models])

    def _engine(self, images: int, penalty=None, penalty_alone: bool = False) -> Engine:
        compiled = self.engine_name == "compiled"
        return Engine(self.objective, penalty, self.most_for(images), self.normalize, compiled, penalty_alone)

    def most_for(self, images: int) -> int:
        """Return how many micro-batches of so many images share a pass, those of all seeds counted."""
        return self.options.together or choose_grouping(self.objective, images, self.pixels)

    def _start(self, model: torch.nn.Module) -> State:
        objective, named = self.objective, {name: p.detach() for name, p in model.named_parameters()}
        theta, buffers = objective.parameters.vector(named), objective.buffers
        running = buffers.vector(dict(model.named_buffers())).clone() if buffers.names else theta[:0]
        return State(theta, running, theta.new_zeros(self.total), started=now())

    def resume(self, states: list[State]) -> None:
        """Go on from these states, one for each seed."""
        self.states = states
        self._gather()

    def _gather(self) -> None:
        """Put the seeds that have not ended into a batch of their own."""
        running = [index for index, state in enumerate(self.states) if not state.ended]
        if self.loader is not None:
            self.loader.close()
        self.batch = Batch([self.states[index] for index in running]) if running else None
        self.rows, specs = running, [self.specs[index] for index in running]
        if not running:
            return
        self.check = DivergenceCheck(len(running), self.device)
        # As many micro-batches of each seed as fit into a pass, evenly.
        count = -(-(self.spec.blocks_per_step or self.micro_batches) // self.ranks.size)
        passes = -(-count // max(1, self.engine.most // len(running)))
        self.loader = DataLoader(specs, self.images, self.labels, self.device, -(-count // passes))
        self.tick = time.perf_counter()

    @property
    def engine_used(self) -> str:
        """The engine, or what stands in for it where there is no compiler."""
        return "compiled" if self.engine.compiled else "eager"

    def step(self) -> dict:
        """Make one optimizer step of all running seeds.

        Returns:
            what the history records of it: numbers, or tensors (seeds,) that are not read back.
        """
        spec, batch = self.spec, self.batch
        if not batch.step:
            self.record_noise()
            self.tick = time.perf_counter()
        allow_tf32(self.precision == "tf32")
        # The learning rate, and which micro-batches of the epoch.
        epoch, within = divmod(batch.step, self.steps_per_epoch)
        lr = learning_rate(spec.schedule, spec.lr, epoch if spec.schedule.unit == "epoch" else batch.step, self.total)
        first, end = step_range(spec, self.micro_batches, within)
        # The gradient, penalty included.
        gradient, loss, penalty = self.gradient(epoch, first, end, lr)
        norm = gradient.norm(dim=1)
        batch.norms[:, batch.step] = norm
        line = {
            "epoch": epoch + 1, "lr": lr, "step_loss": loss, "penalty": penalty, "gradient_norm": norm,
            "clipped": norm > (math.inf if spec.clip is None else spec.clip),
        }  # fmt: skip
        before = None
        if self.has_line(batch.step + 1) and self.ranks.leads:
            before = batch.theta.clone()
            line["full_loss"] = loss + 0.5 * spec.weight_decay * before.square().sum(1) + penalty
            line["micro_batch_norm2"] = micro_batch_norms2(self) if spec.watch else None
        # Transforms and optimizer.
        reference = None if self.reference_norms is None else self.reference_norms[self.rows, batch.step]
        context = Context(norm, lambda: self._micro_batch_norm(epoch, first, end), reference)
        for transform in self.transforms:
            gradient = transform(gradient, context)
        sgd(batch.theta, batch.optimizer, gradient, lr, spec)
        batch.share()
        for state in batch.states:
            state.step += 1
            state.micro_batches += end - first
        if before is not None:
            line["step_length"] = (batch.theta - before).norm(dim=1)
        return line

    def gradient(self, epoch: int, first: int, end: int, lr: float) -> tuple[torch.Tensor, ...]:
        """Return the mean gradient (S, P) of the micro-batches first … end − 1, penalty included; move running statistics.

        Returns:
            ḡ = mean_B [g_B + penalty_B] for averaging "mean"; the mean loss (S,) in training mode; the mean penalty (S,).
        """
        spec, batch, count = self.spec, self.batch, end - first
        own, own_end = self.ranks.share(first, end)
        here = slice(own - first, own_end - first)
        weights = micro_batch_weights(count, spec.averaging, batch.theta.dtype, self.device)[here]
        kept = self.objective.statistic_weights(count, batch.theta)[here]
        draws = None if self.draw is None or self.sampled else self._draws(count, spec.block)[:, here]
        step = Step(batch.theta, weights, kept, lr, draws=draws)
        if self.needs_full_gradient:
            full = self.plain.sums(replace(step, draws=None), self.loader.groups(epoch, own, own_end))
            step = replace(step, full_gradient=self.ranks.sum(full.gradient)[0])
        sums = self.engine.sums(step, self.loader.groups(epoch, own, own_end))
        gradient, statistics, loss, penalty = self.ranks.sum(*sums)
        batch.running.mul_((1 - self.objective.momentum) ** count).add_(statistics)
        loss, penalty = loss / count, penalty / count
        if self.sampled:
            added, penalty = self._sampled_penalty(epoch, first, end, lr)
            gradient = gradient + added
        return gradient, loss, penalty

    def _draws(self, count: int, images: int) -> torch.Tensor:
        """Return what the penalty draws in a step for so many micro-batches of so many images, (S, count, …)."""
        name, step = self.spec.penalty.name, self.batch.step
        drawn = [self.draw(stream(seed, name, step), count, images, self.classes) for seed in self.loader.seeds]
        draws = torch.from_numpy(np.stack(drawn)).to(self.batch.theta.dtype)
        return draws.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else draws

    def _places(self, first: int, end: int) -> np.ndarray:
        """Return where the images of the micro-batches first … end − 1 stand in the epoch's order."""
        n = self.spec.block
        return np.arange(first * n, min(end * n, epoch_images(self.spec, self.count)))

    def _one(self, engine: Engine, lr: float, group, rows=slice(None), draws=None):
        """Return the sums over one micro-batch of each seed in `rows`, whose batch statistics are dropped."""
        theta = self.batch.theta[rows]
        one = theta.new_ones(1)
        images, labels = (part.unsqueeze(1) for part in group)
        return engine.sums(Step(theta, one, 0 * one, lr, draws=draws), [(images, labels)])

    def _sampled_penalty(self, epoch: int, first: int, end: int, lr: float) -> list[torch.Tensor]:
        """Return gradient (S, P) and value (S,) of the penalty of one micro-batch, drawn from the images of the step."""
        batch = self.batch
        added, value = torch.zeros_like(batch.theta), batch.theta.new_zeros(len(batch.theta))
        if self.ranks.leads:
            places = self._places(first, end)
            count = min(self.sampled, len(places))
            chosen = [
                stream(seed, "sample", batch.step).choice(places, count, replace=False) for seed in self.loader.seeds
            ]
            draws = self.draw and self._draws(1, count)
            sums = self._one(self.sampler, lr, self.loader.take(epoch, chosen), draws=draws)
            added, value = sums.gradient, sums.penalty
        return self.ranks.sum(added, value)

    def _micro_batch_norm(self, epoch: int, first: int, end: int) -> torch.Tensor:
        """Return the gradient norm (S,) of one micro-batch of the step, drawn at random, without penalty."""
        batch = self.batch
        norms = batch.theta.new_zeros(len(batch.theta))
        for row, seed in enumerate(self.loader.seeds if self.ranks.leads else ()):
            chosen = first + int(stream(seed, "graft", batch.step).integers(end - first))
            places = [self._places(chosen, chosen + 1)] * len(batch.theta)
            group = (part[row : row + 1] for part in self.loader.take(epoch, places))
            norms[row] = self._one(self.plain, 0.0, group, slice(row, row + 1)).gradient.norm()
        return self.ranks.sum(norms)[0]

    def after_step(self, step: dict) -> None:
        """Write the history's lines of a step, and take the seeds that have ended out of the batch.

        Args:
            step: what `step` returned.
        """
        spec, batch = self.spec, self.batch
        due = batch.step in self.evaluation_steps
        stops = due and spec.stop_accuracy is not None
        self.check.add(step["step_loss"])
        diverged = self.check.read(wait=due)
        if any(diverged):
            diverged = self.check.read(wait=True)
        if due:
            finite = batch.theta.norm(dim=1).isfinite().tolist()
            diverged = [bad or not fine for bad, fine in zip(diverged, finite, strict=True)]
        self._count_time()
        accurate = batch.theta.new_zeros(len(diverged))
        if self.ranks.leads:
            rows = [row for row, bad in enumerate(diverged) if bad or self.has_line(batch.step)]
            lines = [self.evaluate(step, row, accuracies=due or diverged[row]) for row in rows]
            for row, line in zip(rows, lines, strict=True):
                batch.states[row].history.append(line)
                if self.loader.seeds[row] in self.events:
                    self.events[self.loader.seeds[row]].add(line)
                accurate[row] = stops and line["train_accuracy"] >= spec.stop_accuracy
            if self.progress is not None:
                self.progress.step()
                if shown := [line for line in lines if line["train_accuracy"] is not None]:
                    self.progress.evaluation(shown)
        if stops:
            accurate = self.ranks.sum(accurate)[0]
        for state, bad, enough in zip(batch.states, diverged, accurate.tolist(), strict=True):
            end = "finished" if state.step == self.total else "stopped" if enough else ""
            state.ended = "diverged" if bad else end
        self.record_noise()
        if any(state.ended for state in batch.states):
            self._gather()
        self.tick = time.perf_counter()

    def _count_time(self) -> None:
        """Share the time since the last tick among the running seeds."""
        seconds = (time.perf_counter() - self.tick) / len(self.batch.states)
        for state in self.batch.states:
            state.seconds += seconds

    def has_line(self, step: int) -> bool:
        """Return whether the history has a line for this step, counted from 1."""
        probe = self.spec.watch
        return step in self.evaluation_steps or (probe is not None and (step - 1) % probe.every == 0)

    def evaluate(self, step: dict, row: int, accuracies: bool = True) -> dict:
        """Return one line of the history: the step just made, and all splits after it, in fp32 whatever the precision.

        Args:
            step: what `step` returned.
            row: which of the running seeds.
            accuracies: measure losses and accuracies; the line has none otherwise.
        """
        state = self.batch.states[row]
        line = {"step": state.step}
        line |= {key: value[row].item() if isinstance(value, torch.Tensor) else value for key, value in step.items()}
        if accuracies:
            allow_tf32(False)
            for split, (images, labels) in self.data.items():
                measured = evaluate(self.objective, state.theta, state.running, images, labels, self.normalize)
                line |= {f"{split}_{key}": value for key, value in measured.items()}
        line |= {"parameter_norm": state.theta.norm().item(), "clipped": int(line["clipped"])}
        return {column: line.get(column) for column in HISTORY_COLUMNS}

    def record_noise(self) -> None:
        """Measure the gradient noise of the running seeds for which it is due; nothing else is changed."""
        for state, index in zip(self.batch.states, self.rows, strict=True):
            due = state.step in self.noise_steps or (state.ended and self.spec.noise)
            if due and state.ended != "diverged" and self.ranks.leads:
                allow_tf32(False)
                measured = measured_noise(state, self.specs[index], self.objective, self.data["train"], self.normalize)
                state.noise.append(measured)

    def tensors(self, state: State) -> dict[str, torch.Tensor]:
        """Return a seed's state dict: weights, running statistics and batch norm's counters."""
        objective = self.objective
        named = {**objective.parameters.views(state.theta), **objective.buffers.views(state.running)}
        counters = {name: torch.tensor(state.micro_batches) for name in objective.counters}
        return {name: tensor.cpu().clone() for name, tensor in {**named, **counters}.items()}


@lru_cache(maxsize=8)
def micro_batch_weights(count: int, averaging: str, dtype=torch.float32, device="cpu") -> torch.Tensor:
    """Return the weight of each of N micro-batches in ḡ.

    "mean": 1/N, also for one with fewer images. "historical": what avg += (g − avg)/N with constant N gives, weight
    (1/N)(1 − 1/N)^(N−1−i) for micro-batch i, in all 1 − (1 − 1/N)^N ≈ 0.633 (geiping2022's code from its release until
    2023, and so the published numbers).

    Returns:
        weights (N,), in the order of the micro-batches; the same tensor for the same arguments.

    Raises:
        ValueError: another averaging.
    """
    if averaging == "mean":
        return torch.full((count,), 1 / count, dtype=dtype, device=device)
    if averaging != "historical":
        raise ValueError(f"averaging = {averaging!r}: allowed: mean, historical")
    power = torch.arange(count - 1, -1, -1, dtype=dtype, device=device)
    return (1 - 1 / count) ** power / count


def check_fit(spec: RunSpec, dataset: Dataset, inputs: Inputs, count: int) -> None:
    """Refuse a run that does not fit its images or what it is given.

    Raises:
        UserError: in one line.
    """
    grafts = spec.transform is not None and spec.transform.name == "exter_graft"
    for name, needed, given in (("store", spec.store is not None, inputs.copies), ("transform", grafts, inputs.norms)):
        if needed != (given is not None):
            raise UserError(f"{spec.run}: {name}: the run and what it is given do not agree")
    if not 1 <= spec.block <= count:
        raise UserError(f"{spec.run}: block = {spec.block}: must be at most {count}, the images trained on")
    if spec.noise is not None and count < 2 * spec.block:
        raise UserError(
            f"{spec.run}: noise: needs two full micro-batches of {spec.block} images, there are {count} images"
        )
    channels = dataset.train.images.shape[1]
    if spec.normalize and not len(spec.normalize.mean) == len(spec.normalize.std) == channels:
        raise UserError(f"{spec.run}: normalize: has {len(spec.normalize.mean)} channels, the images have {channels}")
