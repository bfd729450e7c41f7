"""Running a batch of seeds of one run to its end: checkpoints, history, results."""

import hashlib
import math
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout
from safetensors.torch import save_file

from whysgd.data.canonical import Dataset, load_dataset
from whysgd.data.store import Store, open_store
from whysgd.errors import UserError
from whysgd.files import csv_text, digest_of, sha256_of, write_atomically, write_json, write_text
from whysgd.results import metrics as saved_metrics
from whysgd.results.paths import (
    HISTORY,
    METRICS,
    MODEL,
    NORMS,
    batch_name,
    batch_seeds,
    dataset_folder,
    run_folder,
    store_file,
)
from whysgd.study.codedigest import code_digest
from whysgd.study.spec import RunSpec, in_lockstep, total_steps, trained_images
from whysgd.training.checkpoint import HISTORY_COLUMNS, State, load_checkpoint, remove_checkpoint, save_checkpoint
from whysgd.training.events import Events
from whysgd.training.noise_log import noise_files
from whysgd.training.norm_log import norms_csv, read_norms
from whysgd.training.progress import Progress
from whysgd.training.ranks import Ranks, join_ranks, leave_ranks
from whysgd.training.results import now, run_metrics
from whysgd.training.stack import Stack
from whysgd.training.stopping import StopRequest, stop_requests
from whysgd.training.trainer import Trainer
from whysgd.training.watch import LossWatch


@dataclass(frozen=True)
class Options:
    """How a batch is trained; none of this decides a result.

    Attributes:
        device: where to train.
        checkpoint_seconds: time between two checkpoints.
        engine, images_on: see `Trainer`.
        tensorboard: write each history as event files, too, see `whysgd.training.events`.
    """

    device: str | torch.device = "cpu"
    checkpoint_seconds: float = 30.0
    engine: str = "auto"
    images_on: str = "auto"
    tensorboard: bool = False


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
    seeds = [spec.seed for spec in specs]
    folder = run_folder(specs[0].scale, specs[0].paper, specs[0].run)
    out = out or folder / batch_name(seeds)
    ranks, device = join_ranks(torch.device(options.device))
    try:
        with ExitStack() as locks:
            if ranks.leads:
                locks.enter_context(_lock(out))
            dataset = load_dataset(data or dataset_folder(specs[0].dataset))
            asked = locks.enter_context(stop_requests())
            copies = open_copies(specs[0], dataset, store)
            jobs = [_job(spec, dataset, copies, norms) for spec in specs]
            return _train(jobs, dataset, out, replace(options, device=device), ranks, asked)
    except RuntimeError as error:
        if ranks.size == 1 or not any(word in str(error).lower() for word in ("gloo", "nccl", "connection", "peer")):
            raise
        raise UserError(f"{out}: rank {ranks.rank}: another rank has ended; start again to continue") from None
    finally:
        leave_ranks()


def _lockstep(specs: Sequence[RunSpec], ranks: Ranks, engine: str) -> bool:
    """Whether runs, or a single one, take the path of `whysgd.training.stack`, which has an engine of its own."""
    return ranks.size == 1 and engine in ("auto", "eager") and in_lockstep(specs)


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


@dataclass
class _Job:
    """One seed, and what its training reads.

    Attributes:
        spec: the run.
        copies, grafted, sources: stored copies, grafted norms, and digests of all it is trained on.
        trainer, watch, progress, events: once it is trained; events if TensorBoard's are wanted.
    """

    spec: RunSpec
    copies: Store | None
    grafted: np.ndarray | None
    sources: dict
    trainer: Trainer | None = None
    watch: LossWatch | None = None
    progress: Progress | None = None
    events: Events | None = None


def _job(spec: RunSpec, dataset: Dataset, copies: Store | None, norms: Sequence[Path]) -> _Job:
    grafted = read_reference(spec, dataset, norms)
    sources = {
        "sha256": dataset.manifest["sha256"],
        "store_sha256": copies and copies.meta["sha256"],
        "reference_digest": None if grafted is None else hashlib.sha256(grafted.tobytes()).hexdigest(),
    }
    return _Job(spec, copies, grafted, sources)


def _train(
    jobs: list[_Job], dataset: Dataset, out: Path, options: Options, ranks: Ranks, asked: StopRequest
) -> list[dict]:
    code, begin = code_digest(__name__), time.process_time()
    finished = _finished(jobs, out, code)
    identity = digest_of({"code": code, "seeds": [{"spec": job.spec.to_dict(), **job.sources} for job in jobs]})
    states = load_checkpoint(out, identity, torch.device(options.device)) if finished is None else None
    # Nobody writes before everybody has read.
    ranks.wait()
    if finished is not None:
        print(f"{out}: finished already; remove {METRICS} there to train again", file=sys.stderr)
        return finished if ranks.leads else []
    for index, job in enumerate(jobs):
        job.trainer = Trainer(
            job.spec, dataset, options.device, ranks=ranks, engine=options.engine, images_on=options.images_on,
            store=job.copies, norms=job.grafted,
        )  # fmt: skip
        job.trainer.state = job.trainer.state if states is None else states[index]
        events = options.tensorboard and ranks.leads
        job.events = Events(out / f"seed-{job.spec.seed}", job.trainer.state.history) if events else None
    _make_steps(jobs, out, identity, options.checkpoint_seconds, options.engine, asked)
    return _write(jobs, dataset, out, code, begin) if ranks.leads else []


def _finished(jobs: list[_Job], out: Path, code: str) -> list[dict] | None:
    """The metrics of the same batch, if it has been trained to its end and its files are those that it wrote."""
    if not (out / METRICS).is_file():
        return None
    metrics = saved_metrics.read_metrics(out / METRICS)
    found = [(one["spec_digest"], one["code_digest"], one["data"]) for one in metrics]
    for job, (digest, digest_of_code, trained_on) in zip(jobs, found, strict=False):
        if (digest, digest_of_code) != (job.spec.digest, code) or not job.sources.items() <= trained_on.items():
            return None
    if len(found) != len(jobs):
        return None
    for name, digest in metrics[0]["sha256"].items():
        if not (out / name).is_file() or sha256_of(out / name) != digest:
            print(f"{out / name}: is not what the run wrote; training again", file=sys.stderr)
            return None
    return metrics


def _write(jobs: list[_Job], dataset: Dataset, out: Path, code: str, begin: float) -> list[dict]:
    """Write the results of a batch that has ended; returns its metrics. `begin`: its start, in processor time."""
    seconds = (time.process_time() - begin) / len(jobs)
    states = {job.spec.seed: job.trainer.state for job in jobs}
    weights = {job.spec.seed: job.trainer.tensors() for job in jobs}
    named = {f"{seed}/{name}": tensor for seed, own in weights.items() for name, tensor in own.items()}
    write_atomically(out / MODEL, lambda path: save_file(named, path))
    history = [{"seed": seed, **line} for seed, state in states.items() for line in state.history]
    texts = {
        HISTORY: csv_text(("seed", *HISTORY_COLUMNS), history),
        NORMS: norms_csv({seed: state.norms[: state.step].tolist() for seed, state in states.items()}),
        **noise_files({seed: state.noise for seed, state in states.items()}),
    }
    for name, text in texts.items():
        write_text(out / name, text)
    metrics = [run_metrics(job.spec, job.trainer, dataset.manifest, code, job.sources, seconds) for job in jobs]
    for one in metrics:
        one["weights_sha256"] = weights_digest(weights[one["seed"]])
    content = saved_metrics.joined(metrics, {name: sha256_of(out / name) for name in (*texts, MODEL)})
    write_json(out / METRICS, content)
    remove_checkpoint(out)
    return saved_metrics.split(content)


def weights_digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """sha256 of a state dict's tensors with their names, in the order of these."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].contiguous().cpu().numpy().data)
    return digest.hexdigest()


def _make_steps(
    jobs: list[_Job], folder: Path, identity: str, checkpoint_seconds: float, engine: str, asked: StopRequest
) -> None:
    """Make all steps that are left, with evaluations and checkpoints, until every run has ended."""
    for job in jobs:
        trainer, spec = job.trainer, job.spec
        trainer.state.started = trainer.state.started or now()
        job.watch = LossWatch(trainer.device)
        if trainer.ranks.leads:
            job.progress = Progress(f"{spec.paper}/{spec.run} seed {spec.seed}", trainer.total, trainer.state.step)
    last = time.monotonic()
    together = _lockstep([job.spec for job in jobs], jobs[0].trainer.ranks, engine)
    while running := [job for job in jobs if not job.trainer.state.ended]:
        running = running if together else running[:1]
        last = _make_steps_until_one_ends(running, jobs, folder, identity, checkpoint_seconds, engine, last, asked)
    for job in jobs:
        for shown in (job.progress, job.events):
            if shown is not None:
                shown.close()


def _make_steps_until_one_ends(
    running: list[_Job],
    jobs: list[_Job],
    folder: Path,
    identity: str,
    checkpoint_seconds: float,
    engine: str,
    last: float,
    asked: StopRequest,
) -> float:
    """Make steps of all running jobs until one of them ends; returns when the last checkpoint was written."""
    first = running[0].trainer
    lockstep = _lockstep([job.spec for job in running], first.ranks, engine)
    make_steps = Stack([job.trainer for job in running]).step if lockstep else None
    for job in running:
        if not job.trainer.state.step:
            job.trainer.record_noise()
    clock = _Clock([job.trainer.state for job in running])
    while not any(job.trainer.state.ended for job in running):
        try:
            steps = make_steps() if make_steps else [first.step()]
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise UserError(f"{first.spec.run}: a block of one image is too small for batch norm; use drop_last") from (
                None
            )
        due = first.state.step in first.evaluation_steps
        for job, step in zip(running, steps, strict=True):
            _after_step(job, step, due, clock)
        if not first.ranks.leads:
            continue
        # A diverged state is never saved: continued from, it would not look diverged.
        saved = (asked or time.monotonic() - last >= checkpoint_seconds) and all(_fine(job) for job in running)
        if saved:
            clock.stop()
            save_checkpoint(folder, [job.trainer.state for job in jobs], identity)
            clock.start()
            last = time.monotonic()
        # Who has made the last step only has its results to write.
        if asked and not all(job.trainer.state.ended for job in jobs):
            asked.obey(f"{folder}: step {max(job.trainer.state.step for job in running)}", saved)
    clock.stop()
    return last


def _fine(job: _Job) -> bool:
    return job.trainer.state.ended != "diverged" and job.watch.unread_finite()


def _after_step(job: _Job, step: dict, due: bool, clock: "_Clock") -> None:
    """Take note of a step: see whether the run has ended, and write a line of its history if there is one.

    Args:
        step: what `Trainer.step` returned.
        due: whether losses and accuracies are measured.
        clock: stops meanwhile.
    """
    trainer, spec = job.trainer, job.spec
    state = trainer.state
    job.watch.add(step["step_loss"])
    diverged = not job.watch.finite(wait=due) or (due and not math.isfinite(state.theta.norm().item()))
    state.ended = "diverged" if diverged else "finished" if state.step == trainer.total else ""
    stops = due and spec.stop_accuracy is not None
    accurate = False
    if trainer.ranks.leads:
        job.progress.step()
        if diverged or trainer.has_line(state.step):
            clock.stop()
            state.history.append(trainer.evaluate(step, accuracies=diverged or due))
            if job.events is not None:
                job.events.add(state.history[-1])
            accurate = stops and state.history[-1]["train_accuracy"] >= spec.stop_accuracy
            if diverged or due:
                job.progress.evaluation(state.history[-1])
            clock.start()
    if stops and not state.ended:
        accurate = bool(trainer.ranks.sum(state.theta.new_tensor(float(accurate)))[0] > 0)
        state.ended = "stopped" if accurate else ""
    if not diverged:
        clock.stop()
        trainer.record_noise(end=bool(state.ended))
        clock.start()


class _Clock:
    """Time spent in steps, shared among the runs that make them together.

    Args:
        states: of these runs.
    """

    def __init__(self, states: list[State]):
        self.states = states
        self.start()

    def start(self) -> None:
        """Go on."""
        self.begin = time.perf_counter()

    def stop(self) -> None:
        """Add what has passed since `start`."""
        for state in self.states:
            state.seconds += (time.perf_counter() - self.begin) / len(self.states)


def open_copies(spec: RunSpec, dataset: Dataset, store: Path | None) -> Store | None:
    """The run's stored copies, checked to be those of its data set and settings."""
    if spec.store is None:
        return None
    copies = open_store(store or store_file(spec.dataset, spec.store.name), verify=True)
    wanted = {**asdict(spec.store), "source": dataset.manifest["sha256"]}
    found = {**{key: copies.meta[key] for key in asdict(spec.store)}, "source": copies.meta["source"]["sha256"]}
    if different := [key for key in wanted if wanted[key] != found[key]]:
        raise UserError(f"{copies.path}: is of another {', '.join(different)} than the run asks for")
    return copies


def read_reference(spec: RunSpec, dataset: Dataset, norms: Sequence[Path]) -> np.ndarray | None:
    """The gradient norms that the run grafts, those of the same seed, one for each step."""
    if spec.transform is None or spec.transform.reference is None:
        return None
    folder = run_folder(spec.scale, spec.paper, spec.transform.reference)
    files = list(norms) or [batch / NORMS for batch in sorted(folder.glob("seeds-*"))]
    named = [file for file in files if spec.seed in batch_seeds(file.parent.name)]
    file = (named or files or [folder / batch_name([spec.seed]) / NORMS])[0]
    return read_norms(file, total_steps(spec, trained_images(spec, len(dataset.train.labels))), spec.seed)
