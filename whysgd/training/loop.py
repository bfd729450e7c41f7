"""One loop for mini-batch and full-batch training: accumulate over blocks, penalty, transform, step."""

import math
import sys
import time
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from safetensors.torch import save_file

from whysgd.codedigest import code_digest
from whysgd.data.augmentation import Normalizer
from whysgd.data.blocks import step_range
from whysgd.data.canonical import Dataset, load_dataset
from whysgd.data.feed import Feed, fits
from whysgd.data.store import Store, open_store
from whysgd.errors import UserError
from whysgd.files import digest_of, read_json, write_atomically, write_json, write_text
from whysgd.measures.accuracy import evaluate
from whysgd.models.build import build_model
from whysgd.spec import Penalty, RunSpec, blocks_per_epoch, steps_per_epoch
from whysgd.training.checkpoint import State, load_checkpoint, remove_checkpoint, save_checkpoint
from whysgd.training.device import allow_tf32, engine_on, memory_of, precision_on
from whysgd.training.gradients import ALONE, StackSums, step_gradient
from whysgd.training.graphs import CudaCapture, GraphedSums
from whysgd.training.grouping import Grouping, choose_grouping
from whysgd.training.objective import Objective
from whysgd.training.progress import Progress
from whysgd.training.ranks import Ranks, join_ranks, leave_ranks
from whysgd.training.results import HISTORY, HISTORY_COLUMNS, METRICS, MODEL, history_csv, now, run_metrics
from whysgd.training.schedules import learning_rate
from whysgd.training.sgd import sgd_step
from whysgd.training.transforms import Context, transforms_of
from whysgd.training.watch import LossWatch


class Trainer:
    """One run in memory: data, network and state. `step` makes one step; nothing here touches the disk.

    Args:
        spec: what to run.
        dataset: the canonical data set it names.
        device: where tensors live.
        blocks_at_once: most blocks in one stack; None chooses by size, 1 is the plain loop.
        grouping: how they are computed, too; None chooses.
        store: the stored copies that the run trains on, if it does.
        dtype: of weights and sums, and, unless the precision is lower, of all arithmetic.
        ranks: the processes that share each step's blocks.
        engine: "eager", operation by operation; "graph", each stack a CUDA graph; "compiled", by a compiler and, on
            a GPU, also as a graph; "auto": compiled on a GPU, eager on a CPU.
        images_on: "device", "host" or "auto", see `whysgd.data.feed`.

    Raises:
        UserError: the run does not fit the images, or the device.
    """

    def __init__(
        self,
        spec: RunSpec,
        dataset: Dataset,
        device="cpu",
        blocks_at_once: int | None = None,
        dtype=torch.float32,
        ranks: Ranks = ALONE,
        engine: str = "auto",
        images_on: str = "auto",
        grouping: Grouping | None = None,
        store: Store | None = None,
    ):
        images = dataset.train.images
        if (spec.store is None) != (store is None):
            raise UserError(f"{spec.run}: store: the run and what it is given do not agree")
        if spec.block > len(images):
            raise UserError(f"{spec.run}: block = {spec.block}: must be at most {len(images)}, the training images")
        self.spec, self.device, self.ranks = spec, torch.device(device), ranks
        if self.device.type == "cuda" and self.device.index is None:
            self.device = torch.device("cuda", torch.cuda.current_device())
        statistics = asdict(spec.normalize) if spec.normalize else dataset.manifest
        mean, std = statistics["mean"], statistics["std"]
        if not len(mean) == len(std) == images.shape[1]:
            raise UserError(f"{spec.run}: normalize: has {len(mean)} channels, the images have {images.shape[1]}")
        self.normalize = Normalizer(mean, std, dtype, device)
        self.precision = precision_on(spec, self.device)
        self.engine = engine_on(engine, self.device)
        model = build_model(
            spec.model, images.shape[1], len(dataset.manifest["classes"]), spec.seed, images.shape[2]
        )  # fmt: skip
        model.to(self.device, dtype)
        self.objective = Objective(model, torch.bfloat16 if self.precision == "bf16" else None)
        theta = self.objective.parameters.vector({n: p.detach() for n, p in model.named_parameters()})
        buffers = (
            self.objective.buffers.vector(dict(model.named_buffers())) if self.objective.buffers.names else theta[:0]
        )
        self.state = State(theta, torch.zeros_like(theta), buffers.clone())
        self.images = len(images)
        self.blocks = blocks_per_epoch(spec, self.images)
        self.steps_per_epoch = steps_per_epoch(spec, self.images)
        self.total = spec.epochs * self.steps_per_epoch
        points = min(spec.evaluations, self.total)
        self.evaluation_steps = {round((i + 1) * self.total / points) for i in range(points)}
        per_step = -(-(spec.blocks_per_step or self.blocks) // ranks.size)
        self.grouping = grouping or choose_grouping(
            spec, self.objective, images.shape[1:], per_step, memory_of(self.device)
        )  # fmt: skip
        if blocks_at_once is not None:
            self.grouping = replace(self.grouping, most=blocks_at_once)
        capture = None
        if self.engine != "eager":
            capture = CudaCapture() if self.device.type == "cuda" else lambda body: body
        self.sums, self.plain_sums = (self._sums(penalty, capture) for penalty in (spec.penalty, None))
        self.feed = Feed(
            spec, images if store is None else store, dataset.train.labels, self.device, self.grouping.most, images_on
        )  # fmt: skip
        measured = {"train": dataset.train, "test": dataset.test}
        self.data = {
            split: (
                # Training and measuring share what lies on the device.
                self.feed.images if split == "train" and store is None else self._placed(part.images, images_on),
                torch.from_numpy(part.labels).to(self.device),
            )
            for split, part in measured.items()
        }
        self.transforms = transforms_of(spec)

    def _placed(self, images, images_on: str) -> torch.Tensor:
        """Images to measure on, in the device's memory if they fit."""
        here = fits(images.nbytes, self.device, images_on)
        return torch.from_numpy(images).to(self.device if here else "cpu")

    def _sums(self, penalty: Penalty | None, capture) -> StackSums:
        """What computes a stack of blocks, in the way and by the engine chosen."""
        copies = self.grouping.way != "shared"
        if self.engine == "eager":
            return StackSums(self.objective, penalty, copies, self.normalize)
        streams = self.grouping.way == "streams"
        compiled = self.engine == "compiled"
        return GraphedSums(self.objective, penalty, copies, self.normalize, compiled, capture, streams)

    @property
    def engine_used(self) -> str:
        """The engine, or what stands in for it where there is no compiler."""
        if self.engine != "compiled" or self.sums.compiled:
            return self.engine
        return "graph" if self.device.type == "cuda" else "eager"

    def step(self) -> dict:
        """Make one optimizer step; returns what the history records of it (tensors are not read back)."""
        spec, state = self.spec, self.state
        allow_tf32(self.precision == "tf32")
        epoch, within = divmod(state.step, self.steps_per_epoch)
        clock = epoch if spec.schedule.unit == "epoch" else state.step
        lr = learning_rate(spec.schedule, spec.lr, clock)
        first, end = step_range(spec, self.blocks, within)
        own, own_end = self.ranks.share(first, end)
        result = step_gradient(
            self.sums, state.theta, state.running, lambda: self.feed.stacks(epoch, own, own_end),
            end - first, lr, spec.averaging, own - first, self.ranks, self.plain_sums,
        )  # fmt: skip
        gradient, norm = result.gradient, result.gradient.norm()
        for transform in self.transforms:
            gradient = transform(gradient, Context(norm, state.step))
        full_loss = result.loss + 0.5 * spec.weight_decay * state.theta.square().sum() + result.penalty
        sgd_step(state.theta, state.momentum, gradient, lr, spec.momentum, spec.nesterov, spec.weight_decay)
        state.running = result.running
        state.step += 1
        state.blocks += end - first
        clipped = norm > spec.clip if spec.clip is not None else torch.zeros((), dtype=torch.bool)
        return {"epoch": epoch + 1, "lr": lr, "step_loss": result.loss, "full_loss": full_loss,
                "gradient_norm": norm, "clipped": clipped}  # fmt: skip

    def evaluate(self, step: dict) -> dict:
        """One line of the history: the step just made, and both splits after it, in fp32 whatever the precision."""
        state = self.state
        allow_tf32(False)
        row = {"step": state.step}
        row |= {key: value.item() if isinstance(value, torch.Tensor) else value for key, value in step.items()}
        for split, (images, labels) in self.data.items():
            measured = evaluate(self.objective, state.theta, state.running, images, labels, self.normalize)
            row |= {f"{split}_{key}": value for key, value in measured.items()}
        row["parameter_norm"] = state.theta.norm().item()
        row["clipped"] = int(row["clipped"])
        return {column: row[column] for column in HISTORY_COLUMNS}

    def tensors(self) -> dict[str, torch.Tensor]:
        """The network's state dict: weights, running statistics and batch norm's counters."""
        state, objective = self.state, self.objective
        named = {**objective.parameters.views(state.theta), **objective.buffers.views(state.running)}
        counters = {name: torch.tensor(state.blocks) for name in objective.counters}
        return {name: tensor.cpu().clone() for name, tensor in {**named, **counters}.items()}


def train(
    spec: RunSpec,
    data: Path,
    out: Path,
    device="cpu",
    checkpoint_seconds: float = 30.0,
    engine: str = "auto",
    images_on: str = "auto",
    store: Path | None = None,
) -> dict:
    """Run one specification to its end and write metrics.json, history.csv and model.safetensors.

    Continues from a checkpoint of the same job if there is one; the result is bit-identical to an
    uninterrupted run's on the CPU with the same number of threads (apart from times). A loss that is
    not finite ends the run as a result marked `diverged`. Under torchrun every rank calls this with the same
    arguments; the result is that of one process up to rounding, and a checkpoint may be continued by any number.

    Args:
        spec: the run.
        data: folder of the canonical data set.
        out: the run's folder.
        device: where to train.
        checkpoint_seconds: time between two checkpoints.
        engine, images_on: see `Trainer`.
        store: file of the stored copies, for a run on such.

    Returns:
        the metrics; an empty dict on ranks that do not lead.

    Raises:
        UserError: the data are damaged, another process trains in the same folder, a block is too small for
            batch norm, or another rank has died.
    """
    ranks, device = join_ranks(torch.device(device))
    try:
        with _lock(out) if ranks.leads else nullcontext():
            return _train(spec, data, out, device, checkpoint_seconds, ranks, engine, images_on, store)
    except RuntimeError as error:
        if ranks.size == 1 or not any(word in str(error).lower() for word in ("gloo", "nccl", "connection", "peer")):
            raise
        raise UserError(f"{out}: rank {ranks.rank}: another rank has ended; start again to continue") from None
    finally:
        leave_ranks()


def _lock(out: Path) -> FileLock:
    """The run's folder, made and locked."""
    lock = FileLock(out / ".lock", timeout=0)
    try:
        out.mkdir(parents=True, exist_ok=True)
        return lock.acquire()
    except Timeout:
        raise UserError(f"{out}: another process is training in this folder; wait for it or end it") from None
    except OSError as error:
        raise UserError(f"{out}: cannot be used as the run's folder ({error.strerror or error})") from None


def _train(
    spec: RunSpec, data: Path, out: Path, device, checkpoint_seconds, ranks: Ranks, engine, images_on, store
) -> dict:
    dataset = load_dataset(data)
    copies = _open_copies(spec, dataset, store)
    stored = copies and copies.meta["sha256"]
    code = code_digest(__name__)
    identity = digest_of({"spec": spec.to_dict(), "data": dataset.manifest["sha256"], "store": stored, "code": code})
    finished = _finished(out, spec, dataset, stored, code)
    trainer = Trainer(spec, dataset, device, ranks=ranks, engine=engine, images_on=images_on, store=copies)
    trainer.state = load_checkpoint(out, identity, trainer.device) or trainer.state
    # Nobody writes before everybody has read.
    ranks.wait()
    if finished is not None:
        if ranks.leads:
            print(f"{out}: finished already; remove {METRICS} there to train again", file=sys.stderr)
        return finished
    diverged = _make_steps(trainer, out, identity, checkpoint_seconds)
    if not ranks.leads:
        return {}
    metrics = run_metrics(
        spec, trainer.state, dataset.manifest, trainer.device, code, diverged, trainer.precision, trainer.engine_used,
        stored,
    )  # fmt: skip
    write_atomically(out / MODEL, lambda path: save_file(trainer.tensors(), path))
    write_text(out / HISTORY, history_csv(trainer.state.history))
    write_json(out / METRICS, metrics)
    remove_checkpoint(out)
    return metrics


def _make_steps(trainer: Trainer, out: Path, identity: str, checkpoint_seconds: float) -> bool:
    """Make all steps that are left, with evaluations and checkpoints; returns whether the run diverged."""
    spec, state, leads = trainer.spec, trainer.state, trainer.ranks.leads
    state.started = state.started or now()
    progress = Progress(f"{spec.paper}/{spec.run} seed {spec.seed}", trainer.total, state.step) if leads else None
    last, begin, diverged = time.monotonic(), time.perf_counter(), False
    watch = LossWatch(trainer.device)
    while state.step < trainer.total and not diverged:
        try:
            step = trainer.step()
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise UserError(f"{spec.run}: a block of one image is too small for batch norm; use drop_last") from None
        due = state.step in trainer.evaluation_steps
        watch.add(step["step_loss"])
        diverged = not watch.finite(wait=due) or (due and not math.isfinite(state.theta.norm().item()))
        if not leads:
            continue
        progress.step()
        if diverged or due:
            state.seconds += time.perf_counter() - begin
            state.history.append(trainer.evaluate(step))
            progress.evaluation(state.history[-1])
            begin = time.perf_counter()
        # A diverged state is never saved: continued from, it would not look diverged.
        if not diverged and time.monotonic() - last >= checkpoint_seconds and watch.unread_finite():
            state.seconds += time.perf_counter() - begin
            save_checkpoint(out, state, identity)
            last, begin = time.monotonic(), time.perf_counter()
    state.seconds += time.perf_counter() - begin
    if leads:
        progress.close()
    return diverged


def _open_copies(spec: RunSpec, dataset: Dataset, store: Path | None) -> Store | None:
    """The run's stored copies, checked to be those of its data set and settings."""
    if spec.store is None:
        return None
    copies = open_store(store or Path("results/stores", spec.dataset, f"{spec.store.name}.lmdb"), verify=True)
    wanted = {**asdict(spec.store), "source": dataset.manifest["sha256"]}
    found = {**{key: copies.meta[key] for key in asdict(spec.store)}, "source": copies.meta["source"]["sha256"]}
    if different := [key for key in wanted if wanted[key] != found[key]]:
        raise UserError(f"{copies.path}: is of another {', '.join(different)} than the run asks for")
    return copies


def _finished(out: Path, spec: RunSpec, dataset: Dataset, stored: str | None, code: str) -> dict | None:
    """The metrics of the same job, if it has been run to its end in this folder."""
    if not all((out / file).is_file() for file in (METRICS, HISTORY, MODEL)):
        return None
    metrics = read_json(out / METRICS)
    data = metrics.get("data", {})
    same = (metrics.get("spec_digest"), data.get("sha256"), data.get("store_sha256"), metrics.get("code_digest"))
    return metrics if same == (spec.digest, dataset.manifest["sha256"], stored, code) else None
