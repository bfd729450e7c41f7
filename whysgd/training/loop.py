"""Running one specification to its end: checkpoints, history, results."""

import hashlib
import math
import sys
import time
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout
from safetensors.torch import save_file

from whysgd.codedigest import code_digest
from whysgd.data.canonical import Dataset, load_dataset
from whysgd.data.store import Store, open_store
from whysgd.errors import UserError
from whysgd.files import digest_of, read_json, write_atomically, write_json, write_text
from whysgd.spec import RunSpec, total_steps, trained_images
from whysgd.training.checkpoint import load_checkpoint, remove_checkpoint, save_checkpoint
from whysgd.training.norm_log import norms_csv, read_norms
from whysgd.training.progress import Progress
from whysgd.training.ranks import Ranks, join_ranks, leave_ranks
from whysgd.training.results import HISTORY, METRICS, MODEL, NORMS, history_csv, now, run_metrics
from whysgd.training.trainer import Trainer
from whysgd.training.watch import LossWatch


def train(
    spec: RunSpec,
    data: Path,
    out: Path,
    device="cpu",
    checkpoint_seconds: float = 30.0,
    engine: str = "auto",
    images_on: str = "auto",
    store: Path | None = None,
    norms: Path | None = None,
) -> dict:
    """Run one specification to its end and write metrics.json, history.csv, gradient_norms.csv and model.safetensors.

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
        norms: log of the run whose gradient norms are grafted, for a run that does so.

    Returns:
        the metrics; an empty dict on ranks that do not lead.

    Raises:
        UserError: the data or the log are damaged or missing, another process trains in the same folder, a block is
            too small for batch norm, or another rank has died.
    """
    ranks, device = join_ranks(torch.device(device))
    try:
        with _lock(out) if ranks.leads else nullcontext():
            return _train(spec, data, out, device, checkpoint_seconds, ranks, engine, images_on, store, norms)
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
    spec: RunSpec, data: Path, out: Path, device, checkpoint_seconds, ranks: Ranks, engine, images_on, store, norms
) -> dict:
    dataset = load_dataset(data)
    copies = _open_copies(spec, dataset, store)
    grafted = _read_reference(spec, dataset, norms)
    code = code_digest(__name__)
    sources = {
        "sha256": dataset.manifest["sha256"],
        "store_sha256": copies and copies.meta["sha256"],
        "reference_digest": None if grafted is None else hashlib.sha256(grafted.tobytes()).hexdigest(),
    }
    identity = digest_of({"spec": spec.to_dict(), "code": code, **sources})
    finished = _finished(out, spec, sources, code)
    trainer = Trainer(
        spec, dataset, device, ranks=ranks, engine=engine, images_on=images_on, store=copies, norms=grafted
    )  # fmt: skip
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
        sources,
    )  # fmt: skip
    write_atomically(out / MODEL, lambda path: save_file(trainer.tensors(), path))
    write_text(out / HISTORY, history_csv(trainer.state.history))
    write_text(out / NORMS, norms_csv(trainer.state.norms[: trainer.state.step].tolist()))
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
        if diverged or trainer.has_line(state.step):
            state.seconds += time.perf_counter() - begin
            state.history.append(trainer.evaluate(step, accuracies=diverged or due))
            if diverged or due:
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


def _read_reference(spec: RunSpec, dataset: Dataset, norms: Path | None) -> np.ndarray | None:
    """The gradient norms that the run grafts, one for each step."""
    if spec.transform is None or spec.transform.reference is None:
        return None
    if norms is None:
        norms = Path(f"results/{spec.scale}/runs/{spec.paper}/{spec.transform.reference}/seed-{spec.seed}", NORMS)
    return read_norms(norms, total_steps(spec, trained_images(spec, len(dataset.train.labels))))


def _finished(out: Path, spec: RunSpec, sources: dict, code: str) -> dict | None:
    """The metrics of the same job, if it has been run to its end in this folder."""
    if not all((out / file).is_file() for file in (METRICS, HISTORY, NORMS, MODEL)):
        return None
    metrics = read_json(out / METRICS)
    data = metrics.get("data", {})
    same = (metrics.get("spec_digest"), metrics.get("code_digest"), *(data.get(key) for key in sources))
    return metrics if same == (spec.digest, code, *sources.values()) else None
