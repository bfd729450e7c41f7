"""Running specifications to their end: checkpoints, history, results."""

import math
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout
from safetensors.torch import save_file

from whysgd.study.codedigest import code_digest
from whysgd.data.canonical import Dataset, load_dataset
from whysgd.data.store import Store, open_store
from whysgd.errors import UserError
from whysgd.files import csv_text, digest_of, sha256_of, write_atomically, write_json, write_text
from whysgd.results.metrics import with_checksum
from whysgd.study.spec import RunSpec, in_lockstep, total_steps, trained_images
from whysgd.training.checkpoint import State, load_checkpoint, remove_checkpoint, save_checkpoint
from whysgd.training.events import Events
from whysgd.training.noise_log import noise_files
from whysgd.training.norm_log import norms_csv, read_norms
from whysgd.training.outputs import (
    HISTORY,
    METRICS,
    MODEL,
    NORMS,
    finished_metrics,
    reference_log,
    source_digests,
    store_file,
)
from whysgd.training.progress import Progress
from whysgd.training.ranks import Ranks, join_ranks, leave_ranks
from whysgd.training.results import HISTORY_COLUMNS, now, run_metrics
from whysgd.training.stack import Stack
from whysgd.training.stopping import StopRequest, stop_requests
from whysgd.training.trainer import Trainer
from whysgd.training.watch import LossWatch


def train(spec: RunSpec, data: Path, out: Path, *others, **options) -> dict:
    """Run one specification to its end; `train_runs` for one run, with its options.

    Returns:
        the metrics; an empty dict on ranks that do not lead.
    """
    return train_runs([spec], data, [out], *others, **options)[0]


def train_runs(
    specs: list[RunSpec],
    data: Path,
    outs: list[Path],
    device="cpu",
    checkpoint_seconds: float = 30.0,
    engine: str = "auto",
    images_on: str = "auto",
    store: Path | None = None,
    norms: Path | None = None,
    tensorboard: bool = False,
) -> list[dict]:
    """Run specifications of one data set to their end and write the results of each into its folder.

    These are metrics.json, history.csv, gradient_norms.csv, model.safetensors and, for a run that measures the gradient
    noise, noise.csv, layers.csv and noise_norms.csv. Runs that `whysgd.study.spec.in_lockstep` allows are trained together,
    others one after another. Runs that are finished already are left alone.

    SIGTERM, SIGINT, SIGHUP and SIGUSR1 end it after the step under way, with a checkpoint. Continues from a checkpoint
    of the same job if there is one; the result is bit-identical to an
    uninterrupted run's on the CPU with the same number of threads (apart from times). A loss that is
    not finite ends the run as a result marked `diverged`. Under torchrun every rank calls this with the same
    arguments; the result is that of one process up to rounding, and a checkpoint may be continued by any number.

    Args:
        specs: the runs.
        data: folder of the canonical data set.
        outs: the folder of each run; the checkpoint of runs that are trained together lies in the first.
        device: where to train.
        checkpoint_seconds: time between two checkpoints.
        engine, images_on: see `Trainer`.
        store: file of the stored copies, for runs on such.
        norms: log of the run whose gradient norms are grafted, for a run that does so.
        tensorboard: write each history as event files, too, see `whysgd.training.events`.

    Returns:
        the metrics of each; empty dicts on ranks that do not lead.

    Raises:
        UserError: the data or the log are damaged or missing, another process trains in the same folder, a block is
            too small for batch norm, or another rank has died.
        StopSignal: by such a signal.
    """
    ranks, device = join_ranks(torch.device(device))
    try:
        with ExitStack() as locks:
            for out in outs if ranks.leads else ():
                locks.enter_context(_lock(out))
            pairs = list(zip(specs, outs, strict=True))
            groups = [pairs] if _lockstep(specs, ranks, engine) else [[pair] for pair in pairs]
            # What it takes to start is the first group's.
            dataset, metrics, begin = load_dataset(data), [], 0.0
            asked = locks.enter_context(stop_requests())
            for group in groups:
                if asked:  # In the last step of the group before.
                    asked.obey(f"{group[0][1]}: not begun")
                metrics += _train(
                    group, dataset, device, checkpoint_seconds, ranks, engine, images_on, store, norms, begin,
                    tensorboard, asked,
                )  # fmt: skip
                begin = time.process_time()
            return metrics
    except RuntimeError as error:
        if ranks.size == 1 or not any(word in str(error).lower() for word in ("gloo", "nccl", "connection", "peer")):
            raise
        raise UserError(f"{outs[0]}: rank {ranks.rank}: another rank has ended; start again to continue") from None
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


def _train(
    group: Sequence[tuple[RunSpec, Path]],
    dataset: Dataset,
    device,
    checkpoint_seconds,
    ranks: Ranks,
    engine,
    images_on,
    store,
    norms,
    begin: float,
    tensorboard: bool,
    asked: StopRequest,
) -> list[dict]:
    """Train runs in lockstep, or a single one of any kind; `begin` is when that started, in processor time."""
    code = code_digest(__name__)
    jobs = [_job(spec, out, dataset, store, norms, code) for spec, out in group]
    finished = [finished_metrics(job.spec, job.out, code, job.sources) for job in jobs]
    # What was finished before, in whatever company, is left alone; a job that was interrupted goes on as it was.
    unfinished = [job for job, metrics in zip(jobs, finished, strict=True) if metrics is None]
    folder, identity = jobs[0].out, digest_of([job.identity for job in jobs])
    states = load_checkpoint(folder, identity, torch.device(device)) if unfinished else None
    if states is None and unfinished:
        jobs, folder, identity = unfinished, unfinished[0].out, digest_of([job.identity for job in unfinished])
        states = load_checkpoint(folder, identity, torch.device(device))
    # Nobody writes before everybody has read.
    ranks.wait()
    if unfinished:
        for index, job in enumerate(jobs):
            job.trainer = Trainer(
                job.spec, dataset, device, ranks=ranks, engine=engine, images_on=images_on, store=job.copies,
                norms=job.grafted,
            )  # fmt: skip
            job.trainer.state = job.trainer.state if states is None else states[index]
            job.events = Events(job.out, job.trainer.state.history) if tensorboard and ranks.leads else None
        _make_steps(jobs, folder, identity, checkpoint_seconds, engine, asked)
    if not ranks.leads:
        return [{} for _ in group]
    written = {job.out: _write(job, dataset, code, len(jobs), begin) for job in jobs} if unfinished else {}
    for job in jobs if unfinished else ():
        remove_checkpoint(job.out)
    for (_, out), metrics in zip(group, finished, strict=True):
        if metrics is not None and out not in written:
            print(f"{out}: finished already; remove {METRICS} there to train again", file=sys.stderr)
    return [written.get(out, metrics) for (_, out), metrics in zip(group, finished, strict=True)]


@dataclass
class _Job:
    """One run, and what its training reads.

    Attributes:
        spec, out: the run and its folder.
        copies, grafted, sources: stored copies, grafted norms, and digests of all it is trained on.
        identity: of its settings, data and code.
        trainer, watch, progress, events: once it is trained; events if TensorBoard's are wanted.
    """

    spec: RunSpec
    out: Path
    copies: Store | None
    grafted: np.ndarray | None
    sources: dict
    identity: str
    trainer: Trainer | None = None
    watch: LossWatch | None = None
    progress: Progress | None = None
    events: Events | None = None


def _job(spec: RunSpec, out: Path, dataset: Dataset, store, norms, code: str) -> _Job:
    copies = open_copies(spec, dataset, store)
    grafted = read_reference(spec, dataset, norms)
    sources = source_digests(dataset.manifest, copies and copies.meta, grafted)
    identity = digest_of({"spec": spec.to_dict(), "code": code, **sources})
    return _Job(spec, out, copies, grafted, sources, identity)


def _write(job: _Job, dataset: Dataset, code: str, together: int, begin: float) -> dict:
    """Write the results of a run that has ended; returns its metrics. `begin`: of its group, in processor time."""
    trainer, out = job.trainer, job.out
    state = trainer.state
    metrics = run_metrics(
        job.spec, state, dataset.manifest, trainer.device, code, trainer.precision, trainer.engine_used, job.sources,
        together, (time.process_time() - begin) / together,
    )  # fmt: skip
    write_atomically(out / MODEL, lambda path: save_file(trainer.tensors(), path))
    metrics["model_sha256"] = sha256_of(out / MODEL)
    texts = {HISTORY: csv_text(HISTORY_COLUMNS, state.history), NORMS: norms_csv(state.norms[: state.step].tolist())}
    texts |= noise_files(state.noise) if job.spec.noise else {}
    for name, text in texts.items():
        write_text(out / name, text)
    metrics["sha256"] = {name: sha256_of(out / name) for name in texts}
    metrics = with_checksum(metrics)
    write_json(out / METRICS, metrics)
    return metrics


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
    while running := [job for job in jobs if not job.trainer.state.ended]:
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
        if asked and not all(job.trainer.state.ended for job in running):
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
    copies = open_store(store or store_file(spec), verify=True)
    wanted = {**dict(spec.store), "source": dataset.manifest["sha256"]}
    found = {**{key: copies.meta[key] for key in dict(spec.store)}, "source": copies.meta["source"]["sha256"]}
    if different := [key for key in wanted if wanted[key] != found[key]]:
        raise UserError(f"{copies.path}: is of another {', '.join(different)} than the run asks for")
    return copies


def read_reference(spec: RunSpec, dataset: Dataset, norms: Path | None) -> np.ndarray | None:
    """The gradient norms that the run grafts, one for each step."""
    log = reference_log(spec)
    if log is None:
        return None
    return read_norms(norms or log, total_steps(spec, trained_images(spec, len(dataset.train.labels))))
