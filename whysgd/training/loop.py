"""The training loop.

`train` loads a batch of seeds, makes their steps, and writes what they leave. `Trainer.step` is one step of all seeds:
learning rate, micro-batches, gradient and penalty, transforms, optimizer. `Trainer.after_step` writes the history and
sees which seeds have ended; `make_steps` repeats the two, with checkpoints.
"""

import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from whysgd.data.canonical import load_dataset
from whysgd.data.loader import DataLoader
from whysgd.data.micro_batches import step_range
from whysgd.errors import UserError
from whysgd.files import digest_of
from whysgd.measures.accuracy import logits_at, reaches
from whysgd.results.machine import machine_facts
from whysgd.results.paths import METRICS, batch_name, dataset_folder, run_folder
from whysgd.study.codedigest import training_code
from whysgd.study.length import micro_batches_per_epoch, phase_at, steps_per_epoch
from whysgd.study.spec import RunSpec
from whysgd.training.averaging import micro_batch_weights
from whysgd.training.checkpoint import (
    HISTORY_COLUMNS,
    Batch,
    State,
    load_checkpoint,
    remove_checkpoint,
    save_checkpoint,
)
from whysgd.training.device import allow_tf32
from whysgd.training.divergence import DivergenceCheck
from whysgd.training.engine import Step
from whysgd.training.events import Events
from whysgd.training.inputs import read_inputs
from whysgd.training.noise_log import measured_noise
from whysgd.training.optimizers import Losses, decay_of, decay_term
from whysgd.training.progress import Progress
from whysgd.training.ranks import join_ranks, leave_ranks
from whysgd.training.results import finished_metrics, write_results
from whysgd.training.sampling import dropout_keys_of, micro_batch_norm, penalty_draws, probed_norms2, sampled_penalty
from whysgd.training.schedules import learning_rate
from whysgd.training.setup import Options, Setup, lock_folder
from whysgd.training.stopping import StopRequest, stop_requests
from whysgd.training.transforms import Context, transformed

DEFAULTS = Options()


def train(
    specs: Sequence[RunSpec],
    data: Path | None = None,
    out: Path | None = None,
    options: Options = DEFAULTS,
    store: Path | None = None,
    norms: Sequence[Path] = (),
) -> list[dict]:
    """Train some seeds of a run to their end and write the results into one folder.

    These are metrics.json, history.csv, gradient_norms.csv, model.safetensors, best.safetensors, noise.csv, layers.csv
    and noise_norms.csv, each with the seed as a key or a column. A batch that is finished already is left alone.

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
    if len({spec.replace(seed=0) for spec in specs}) != 1:
        raise ValueError("a batch has the seeds of one run")
    spec, begin = specs[0], time.process_time()
    out = out or run_folder(spec.scale, spec.paper, spec.run) / batch_name([spec.seed for spec in specs])
    ranks, device = join_ranks(torch.device(options.device))
    try:
        with ExitStack() as held:
            if ranks.leads:
                held.enter_context(lock_folder(out))
            asked = held.enter_context(stop_requests())
            dataset = load_dataset(data or dataset_folder(spec.dataset))
            inputs, code = read_inputs(specs, dataset, store, norms), training_code(spec)
            finished = finished_metrics(specs, out, code, inputs.sources)
            identity = digest_of({"code": code, "specs": [spec.to_dict() for spec in specs], **inputs.sources})
            states = load_checkpoint(out, identity, device) if finished is None else None
            # Nobody writes before everybody has read.
            ranks.wait()
            if finished is not None:
                print(f"{out}: finished already; remove {METRICS} there to train again", file=sys.stderr)
                return finished if ranks.leads else []
            trainer = Trainer(specs, dataset, replace(options, device=device), inputs, ranks)
            if states is not None:
                trainer.resume(states)
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
            try:
                trainer.after_step(trainer.step())
            except ValueError as error:
                if "more than 1 value per channel" not in str(error):
                    raise
                why = "a micro-batch of one image is too small for batch norm; use drop_last"
                raise UserError(f"{trainer.spec.run}: {why}") from None
            if not ranks.leads:
                continue
            # A diverged state is not saved before it is known to be one: continued from, it would not look diverged.
            saved = (asked or time.monotonic() - last >= options.checkpoint_seconds) and trainer.check.unread_finite()
            if saved:
                if trainer.batch is not None:
                    trainer.batch.share()
                save_checkpoint(out, trainer.states, identity)
                last = time.monotonic()
                trainer.tick = time.perf_counter()
            # Who has made the last step only has its results to write.
            if asked and trainer.batch is not None:
                asked.obey(f"{out}: step {trainer.batch.step}", saved)


class Trainer(Setup):
    """Makes the steps of some seeds of a run; see `whysgd.training.setup.Setup` for its arguments.

    Attributes:
        states: one for each seed.
        batch: the states of the seeds that have not ended; None if all have.
        rows: which of the seeds these are.
    """

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.progress, self.events, self.loader, self.machine = None, {}, None, machine_facts()
        self.resume(self.states)

    def resume(self, states: list[State]) -> None:
        """Go on from these states, one for each seed."""
        self.states = states
        self._gather()

    def _gather(self) -> None:
        """Put the seeds that have not ended into a batch of their own."""
        running = [index for index, state in enumerate(self.states) if not state.ended]
        if self.loader is not None:
            self.batch.share()
            self.loader.close()
        self.batch = Batch([self.states[index] for index in running]) if running else None
        self.rows = running
        if not running:
            return
        self.check = DivergenceCheck(len(running), self.device)
        # Which part of the run this is.
        self.phase = phase_at(self.spec, self.count, self.batch.step)
        self.micro_batches = micro_batches_per_epoch(self.phase.spec, self.count)
        self.steps_per_epoch = steps_per_epoch(self.phase.spec, self.count)
        specs = [self.phase.spec.model_copy(update={"seed": self.seeds[index]}) for index in running]
        # As many micro-batches of each seed as fit into a pass, evenly.
        count = -(-(self.phase.spec.micro_batches_per_step or self.micro_batches) // self.ranks.size)
        passes = -(-count // max(1, self.engine.most // len(running)))
        self.loader = DataLoader(specs, self.images, self.labels, self.device, -(-count // passes))
        self.tick = time.perf_counter()

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
        epoch, within = divmod(batch.step - self.phase.step, self.steps_per_epoch)
        epoch += self.phase.epoch
        lr = learning_rate(spec.schedule, spec.lr, epoch if spec.schedule.unit == "epoch" else batch.step, self.total)
        first, end = step_range(self.phase.spec, self.micro_batches, within)
        # The gradient, penalty included.
        gradient, loss, penalty, clipped = self.gradient(epoch, first, end, lr)
        norm = gradient.norm(dim=1)
        batch.norms[:, batch.step] = norm
        line = {
            "epoch": epoch + 1, "lr": lr, "step_loss": loss, "penalty": penalty, "gradient_norm": norm,
            "clipped": torch.zeros_like(norm), "clipped_micro_batches": clipped,
        }  # fmt: skip
        before = None
        written = self.has_line(batch.step + 1) or self.looks_whether_to_stop(batch.step + 1)
        if written and self.ranks.leads:
            before = batch.theta.clone()
            line["full_loss"] = loss + decay_term(before, self.objective.parameters, *decay_of(spec)) + penalty
            line["micro_batch_norm2"] = probed_norms2(self) if spec.probe else None
        # Transforms and optimizer.
        reference = None if self.reference_norms is None else self.reference_norms[self.rows, batch.step]
        small_norm = partial(micro_batch_norm, self, epoch, first, end)

        def changed(theta, gradient, rows=slice(None), line=line):
            norms = None if reference is None else reference[rows]
            context = Context(gradient.norm(dim=1), small_norm, norms, theta, self.objective.parameters,
                              self.loader.seeds[rows], batch.step, line)  # fmt: skip
            return transformed(self.transforms, gradient, context)

        def at(theta, rows):
            gradient, loss, penalty, _ = self.gradient(epoch, first, end, lr, theta, rows)
            return loss + penalty, changed(theta, gradient, rows, {})

        gradient = changed(batch.theta, gradient)
        self.optimizer(batch.theta, batch.optimizer, gradient, lr, losses=Losses(loss + penalty, at))
        if spec.ema and within == self.steps_per_epoch - 1:
            batch.average.lerp_(torch.cat([batch.theta, batch.running], 1), 1 - spec.ema)
        for state in batch.states:
            state.step += 1
            state.micro_batches += end - first
        if before is not None:
            line["step_length"] = (batch.theta - before).norm(dim=1)
        return line

    def gradient(self, epoch, first, end, lr, theta=None, rows: slice = slice(None)) -> tuple[torch.Tensor, ...]:
        """Return the gradient of a step, from the micro-batches first … end − 1, and move the running statistics.

        Args:
            theta: another θ, of the seeds of these rows, at which running statistics stay as they are.

        Returns:
            ḡ = mean_B [g_B + penalty_B] (S, P), each micro-batch's clipped if it shall be; the mean loss (S,) in
            training mode; the mean penalty (S,); how many micro-batches were clipped (S,).
        """
        spec, batch, count = self.spec, self.batch, end - first
        moves, theta = theta is None, batch.theta if theta is None else theta
        own, own_end = self.ranks.share(first, end)
        here = slice(own - first, own_end - first)
        weights = micro_batch_weights(count, spec.averaging, theta.dtype, self.device)[here]
        kept = self.objective.statistic_weights(count, theta)[here]
        draws = None if self.draw is None or self.sampled else penalty_draws(self, count, spec.micro_batch)[rows, here]
        keys = dropout_keys_of(self, count)
        keys = None if keys is None else keys[rows, here]
        step = Step(theta, weights, kept, lr, draws=draws, keys=keys)
        if self.needs_full_gradient:
            full = self.first.sums(step._replace(draws=None), self._groups(epoch, own, own_end, rows))
            step = step._replace(full_gradient=self.ranks.sum(full.gradient)[0])
        sums = self.engine.sums(step, self._groups(epoch, own, own_end, rows))
        gradient, statistics, loss, penalty, clipped = self.ranks.sum(*sums)
        if moves:
            batch.running.mul_((1 - self.objective.momentum) ** count).add_(statistics)
        loss, penalty = loss / count, penalty / count
        if self.sampled:
            added, penalty = sampled_penalty(self, epoch, first, end, lr)
            gradient = gradient + added
        return gradient, loss, penalty, clipped

    def _groups(self, epoch: int, first: int, end: int, rows: slice):
        """Yield the loader's groups, of the seeds of these rows."""
        for group in self.loader.groups(epoch, first, end):
            yield [part[rows] if len(part) > 1 else part for part in group]

    def after_step(self, step: dict) -> None:
        """Write the history's lines of a step, and take the seeds that have ended out of the batch.

        Args:
            step: what `step` returned.
        """
        batch = self.batch
        due = batch.step in self.evaluation_steps
        stops, switches = self.looks_whether_to_stop(batch.step), batch.step in {phase.step for phase in self.phases}
        self.check.add(step["step_loss"])
        diverged = self.check.read(wait=due or switches or stops)
        if any(diverged):
            diverged = self.check.read(wait=True)
        if due:
            finite = batch.theta.norm(dim=1).isfinite().tolist()
            diverged = [bad or not fine for bad, fine in zip(diverged, finite, strict=True)]
        self._count_time()
        accurate = [stops and self.ranks.leads and self.reaches(state) for state in batch.states]
        if self.ranks.leads:
            rows = [row for row, bad in enumerate(diverged) if bad or accurate[row] or self.has_line(batch.step)]
            lines = [self.evaluate(step, row, due or diverged[row] or accurate[row]) for row in rows]
            for row, line in zip(rows, lines, strict=True):
                batch.states[row].history.append(line)
                if self.loader.seeds[row] in self.events:
                    self.events[self.loader.seeds[row]].add(line)
            if self.progress is not None:
                self.progress.step()
                if shown := [line for line in lines if line["train_accuracy"] is not None]:
                    self.progress.evaluation(shown)
        if stops:
            accurate = self.ranks.sum(batch.theta.new_tensor(accurate))[0].tolist()
        for state, bad, enough in zip(batch.states, diverged, accurate, strict=True):
            end = "finished" if state.step == self.total else "stopped" if enough else ""
            state.ended = "diverged" if bad else end
        self.record_noise()
        if switches or any(state.ended for state in batch.states):
            self._gather()
        self.tick = time.perf_counter()

    def reaches(self, state: State) -> bool:
        """Look whether a seed has the accuracy that ends the run; return whether it has had it often enough."""
        allow_tf32(False)
        logits = logits_at(self.objective, *self.evaluated(state), self.normalize, self.spec.test_time_flips)
        enough = reaches(logits, *self.data["train"], self.spec.stop_accuracy)
        state.accurate = state.accurate + 1 if enough else 0
        return state.accurate == self.spec.stop_after

    def _count_time(self) -> None:
        """Share the time since the last tick among the running seeds."""
        seconds = (time.perf_counter() - self.tick) / len(self.batch.states)
        for state in self.batch.states:
            state.seconds += seconds

    def evaluate(self, step: dict, row: int, accuracies: bool = True) -> dict:
        """Return one line of the history: the step just made, and all splits after it; keep the best weights.

        Args:
            step: what `step` returned.
            row: which of the running seeds.
            accuracies: measure all losses and accuracies; the line has those of the held-out images at most otherwise.
        """
        state = self.batch.states[row]
        line = {"step": state.step}
        line |= {key: value[row].item() if isinstance(value, torch.Tensor) else value for key, value in step.items()}
        if accuracies or self.selects(state.step):
            line |= self.measured(*self.evaluated(state), None if accuracies else ["validation"])
        # The first of equals is selected.
        if line.get("validation_accuracy", -1) > state.selected.get("validation_accuracy", -1):
            state.selected = {key: line[key] for key in ("step", "validation_accuracy")}
            state.selected["micro_batches"] = state.micro_batches
            theta, running = self.evaluated(state)
            state.best = {"theta": theta.clone(), "running": running.clone()}
        line |= {"parameter_norm": state.theta.norm().item(), "clipped": int(line["clipped"]),
                 "clipped_micro_batches": int(line["clipped_micro_batches"])}  # fmt: skip
        # Where a seed diverges between two lines there is no other.
        line.setdefault("full_loss", line["step_loss"])
        return {column: line.get(column) for column in HISTORY_COLUMNS}

    def record_noise(self) -> None:
        """Measure the gradient noise of the running seeds for which it is due; nothing else is changed."""
        for state, index in zip(self.batch.states, self.rows, strict=True):
            due = state.step in self.noise_steps or (state.ended and self.spec.noise)
            if due and state.ended != "diverged" and self.ranks.leads:
                allow_tf32(False)
                measured = measured_noise(state, self.specs[index], self.objective, self.data, self.normalize)
                state.noise.append(measured)
