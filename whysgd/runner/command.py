"""What `python -m whysgd run` does and says."""

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from whysgd.errors import UserError
from whysgd.files import read_json
from whysgd.measures.catalog import MEASURES
from whysgd.runner.handover import hand_over
from whysgd.runner.plan import DONE, FAILED, STOPPED, WAITING, Job, jobs_of, settle, wanted_runs
from whysgd.runner.pool import Limits, run_jobs
from whysgd.runner.probe import measured_number
from whysgd.spec import RunSpec
from whysgd.training.gpus import CLAIMED, VISIBLE, claim_gpus
from whysgd.training.outputs import METRICS, saved_step
from whysgd.training.stopping import stop_requests
from whysgd.warm import offer

# Exit code of a call that ends in good order before everything is done.
LEFT = 3
# Seconds before the end of the budget at which what runs is asked to save: this share of it, and no more than so many.
LEAD_SHARE, LONGEST_LEAD = 0.1, 15.0
VERBS = {"build": "built", "train": "trained", "measure": "measured"}


def run_command(
    config: Mapping,
    patterns: Sequence[str],
    seeds: Sequence[int] | None = None,
    measures: Sequence[str] | None = None,
    budget: float | None = None,
    lead: float | None = None,
    at_once: int | str | None = None,
) -> int:
    """Train and measure the wanted runs, as many as fit into the time.

    Args:
        config: a validated configuration.
        patterns: of PAPER/RUN, as in a shell.
        seeds: only these; None takes all that are configured.
        measures: of each finished run; None takes those that are configured.
        budget: seconds for all, with what it takes to end; None is as long as it takes.
        lead: seconds before its end at which what runs is asked to save; None chooses.
        at_once: jobs at a time; None takes one for each GPU or, without, as many as the cores have room for; "auto"
            measures how many the first GPU, or the cores, should have.

    Returns:
        the exit code: 0 if everything is done, 1 if a job failed, `LEFT` if only time was lacking.

    Raises:
        UserError: there is no such run, seed or measure, or no GPU was free in time.
        StopSignal: it was asked to end before everything was done.
    """
    begin = time.monotonic()
    measures = config["measures"] if measures is None else measures
    for name in measures:
        if name not in MEASURES:
            raise UserError(f"run: --measures {name}: no such measure; allowed: none, {', '.join(MEASURES)}")
    specs = wanted_runs(config, patterns, seeds)
    for spec in (spec for spec, wanted in specs.items() if not wanted):
        print(f"{spec.paper}/{spec.run} seed {spec.seed}: runs, too, for its gradient norms are grafted", flush=True)
    jobs = jobs_of(config, specs, measures)
    settle(jobs)
    lead = min(LEAD_SHARE * budget, LONGEST_LEAD) if lead is None and budget else lead or 0.0
    limits = Limits.of(begin, budget, lead)
    offer(config["warm"])
    needs_gpus = config["device"] != "cpu" and any(job.state != DONE for job in jobs)
    gpus = claim_gpus(until=limits.start) if needs_gpus else {}
    with stop_requests() as asked:
        slots = _slots(list(gpus), config["threads"], None if at_once == "auto" else at_once)
        say = partial(_say, jobs)
        if at_once == "auto" and (first := _first_training(jobs)):
            run_jobs(_needed(first), slots[:1], limits, asked, say)
            number = _measured(first, slots[0], max(1, _cores() // config["threads"]), limits.start, asked)
            slots = _slots(list(gpus), config["threads"], number * max(1, len(gpus)))
        run_jobs(jobs, slots, limits, asked, say)
    print(_summary(jobs), flush=True)
    if any(job.state == FAILED for job in jobs):
        return 1
    if all(job.state == DONE for job in jobs):
        return 0
    if asked:
        asked.obey("run")
    return LEFT


def hand_over_command(
    config: Mapping, patterns: Sequence[str], overlays: Sequence[str], settings: Sequence[str]
) -> int:
    """Hand what is finished of the wanted runs over to Snakemake; see `whysgd.runner.handover`.

    Returns:
        the exit code: 0 if everything is finished, `LEFT` if not.
    """
    jobs = jobs_of(config, wanted_runs(config, patterns, None), config["measures"])
    settle(jobs)
    count = hand_over(jobs, overlays, settings)
    print(f"{count} of {len(jobs)} jobs are finished and handed over to Snakemake")
    return 0 if count == len(jobs) else LEFT


def _slots(gpus: Sequence[str], threads: int, at_once: int | None) -> list[dict[str, str]]:
    """What each of the jobs that run at a time finds in its environment: its GPU, if there are any, in turn."""
    if not gpus:
        return [{}] * (at_once or max(1, _cores() // threads))
    cards = [gpus[number % len(gpus)] for number in range(at_once or len(gpus))]
    return [{VISIBLE: card, CLAIMED: card} for card in cards]


def _first_training(jobs: Sequence[Job]) -> Job | None:
    """The first that is to be started and needs no other one."""
    alone = (job for job in jobs if job.kind == "train" and all(need.kind == "build" for need in job.needs))
    return next((job for job in alone if job.state == WAITING), None)


def _needed(job: Job) -> list[Job]:
    """What a job needs, and what that needs, in order."""
    return [other for need in job.needs for other in (*_needed(need), need)]


def _measured(job: Job, slot: Mapping[str, str], most: int, until: float, asked) -> int:
    """How many jobs like this one a GPU, or the cores, should have at a time."""
    if not job.ready or asked:
        return 1
    number, rates = measured_number(job.command(), slot, most, until, asked)
    told = ", ".join(f"{count} at a time {rate:.3g} steps/s" for count, rate in rates.items()) or "no time to measure"
    print(f"{job.name}: {told}; taking {number}{' on each GPU' if slot else ''}", flush=True)
    return number


def _cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _say(jobs: Sequence[Job], job: Job, seconds: float) -> None:
    """One line about a job that has ended."""
    done = sum(other.state == DONE for other in jobs)
    what = VERBS[job.kind] if job.state == DONE else job.state
    told = f": {job.why}" if job.why else _saved(job)
    if job.state == DONE and job.kind == "train":
        told = ", " + "; ".join(_result(spec) for spec in job.specs)
    print(f"[{done}/{len(jobs)}] {job.name}: {what} after {seconds:.1f} s{told}", flush=True)


def _result(spec: RunSpec) -> str:
    try:
        metrics = read_json(Path(spec.folder, METRICS))
        return "diverged" if metrics["status"] == "diverged" else f"test {metrics['final']['test_accuracy']:.2f} %"
    except (UserError, KeyError, TypeError):
        return "no result"


def _saved(job: Job) -> str:
    """Where a training that was stopped will go on; nothing of other jobs."""
    if (job.kind, job.state) != ("train", STOPPED):
        return ""
    # Runs that are trained together share the checkpoint of the first that was not finished.
    steps = [step for spec in job.specs if (step := saved_step(Path(spec.folder))) is not None]
    return f", saved at step {max(steps)}" if steps else ", nothing saved yet"


def _summary(jobs: Sequence[Job]) -> str:
    """What is done, what is not, and where to look."""
    lines = []
    for kind in ("train", "measure"):
        own = [job for job in jobs if job.kind == kind]
        done = [job for job in own if job.state == DONE]
        if own:
            earlier = _runs(job for job in done if job.before)
            before = f" ({earlier} of them before)" if earlier else ""
            lines.append(f"{_runs(done)} of {_runs(own)} runs {VERBS[kind]}{before}")
    lines += [f"  stopped: {job.kind} {job.name}{_saved(job)}" for job in jobs if job.state == STOPPED]
    if waiting := sum(job.state == WAITING for job in jobs):
        lines.append(f"  not started: {waiting} job{'s' * (waiting > 1)}")
    lines += [f"  failed: {job.kind} {job.name}: {job.why} (log: {job.log})" for job in jobs if job.state == FAILED]
    return "\n".join(lines)


def _runs(jobs: Iterable[Job]) -> int:
    return sum(len(job.specs) for job in jobs)
