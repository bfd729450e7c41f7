"""Progress of a whole workflow while it runs: networks trained and measured, and about how long the rest takes.

Jobs count by what they are predicted to take (`whysgd.plan`), corrected by what those that have ended took. Snakemake
tells of its jobs through Python's logging; a handler listens, and a thread prints a line now and then. Jobs may run
anywhere: only what Snakemake says of them is used.
"""

import logging
import os
import queue
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median

from whysgd.errors import UserError

VARIABLE = "WHYSGD_PROGRESS_SECONDS"
# Seconds between two lines on a terminal and elsewhere, and later this part of the time that has passed.
TERMINAL, ELSEWHERE, PART = 10.0, 30.0, 0.01
# Seconds of a job that neither trains nor measures, and for which the prediction outweighs what is observed.
OTHER, PRIOR = 1.0, 15.0
# Of a running job, the share that counts as done, at most; and how far what is observed may be from what is predicted.
MOST, FARTHEST = 0.95, 20.0
_RUN = r"results/[^/]+/{}/([^/]+)/([^/]+)/seed-(\d+)/{}$"
METRICS = re.compile(_RUN.format("runs", r"metrics\.json"))
MEASURE = re.compile(_RUN.format("measures", r"([a-z_]+)\.json"))
LANDSCAPE = re.compile(_RUN.format("landscapes", r"(line|plane)_\d+-of-(\d+)\.csv"))


@dataclass
class Job:
    """A job of the workflow.

    Attributes:
        seconds: that it is predicted to take.
        trains, measures: the networks (paper, run, seed) that it trains, or measures, maybe in part.
        started: when; None if it does not run.
        done: whether it has ended well, now or before this workflow began.
    """

    seconds: float
    trains: frozenset = frozenset()
    measures: frozenset = frozenset()
    started: float | None = None
    done: bool = False


@dataclass
class Overall:
    """What all jobs of a workflow come to.

    Attributes:
        jobs: by Snakemake's number; those that need not run by other keys.
        begun: when the workflow began.
        work: predicted seconds of the jobs that have ended since, and what these took.
        running, side_by_side: the jobs that run, and how many have at once, at most.
    """

    jobs: dict[object, Job]
    begun: float
    work: list[tuple[float, float]] = field(default_factory=list)
    running: set = field(default_factory=set)
    side_by_side: int = 1

    def start(self, number, now: float) -> None:
        """A job has been started."""
        if number in self.jobs:
            self.jobs[number].started = now
            self.running.add(number)
            self.side_by_side = max(self.side_by_side, len(self.running))

    def finish(self, number, now: float) -> None:
        """A job has ended well."""
        job = self.jobs.get(number)
        if job is None or job.done:
            return
        job.done = True
        self.running.discard(number)
        if job.started is not None and job.seconds > OTHER / 2:
            self.work.append((job.seconds, now - job.started))

    def fail(self, number, _now: float) -> None:
        """A job has failed; it may be started again."""
        if number in self.jobs:
            self.jobs[number].started = None
            self.running.discard(number)

    @property
    def finished(self) -> bool:
        return all(job.done for job in self.jobs.values())

    def pace(self) -> float:
        """Predicted seconds of work in a second of a job, as far as it is known."""
        predicted, took = map(sum, zip(*self.work, (PRIOR, PRIOR), strict=True))
        return min(FARTHEST, max(1 / FARTHEST, predicted / max(took, 1e-3)))

    def state(self, now: float) -> dict:
        """How far the workflow is.

        Returns:
            `networks`, `trained` and `measured` (how many; `measured` None if none are), `share` of the work that is
            done, and `left`, seconds.
        """
        pace, total, done, own, longest = self.pace(), 0.0, 0.0, sum(work for work, _ in self.work), 0.0
        for job in self.jobs.values():
            total += job.seconds
            part = job.seconds * job.done
            if not job.done and job.started is not None:
                part = min(MOST * job.seconds, (now - job.started) * pace)
                own += part
            done += part
            longest = max(longest, job.seconds - part)
        rate = (own + PRIOR * self.side_by_side * pace) / (now - self.begun + PRIOR)
        wanted = {key for job in self.jobs.values() for key in job.trains}
        untrained = {key for job in self.jobs.values() if not job.done for key in job.trains}
        measured = {key for job in self.jobs.values() for key in job.measures}
        unmeasured = {key for job in self.jobs.values() if not job.done for key in job.measures}
        return {
            "networks": len(wanted),
            "trained": len(wanted - untrained),
            "measured": len(measured - unmeasured) if measured else None,
            "share": done / total if total else 1.0,
            "left": max((total - done) / rate, longest / pace),
        }

    def line(self, now: float) -> str:
        """How far the workflow is, in a line."""
        state = self.state(now)
        parts = [f"{state['trained']} of {state['networks']} networks trained"] if state["networks"] else []
        parts += [f"{state['measured']} measured"] if state["measured"] is not None else []
        text = f"{', '.join(parts)}; " if parts else ""
        if self.finished:
            return f"whysgd: {text}all done in {span(now - self.begun)}"
        # Nothing is done until it is.
        return f"whysgd: {text}{min(99, int(100 * state['share']))} % of the work, about {span(state['left'])} left"


def span(seconds: float) -> str:
    """A time in words, to two digits or so."""
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    return f"{minutes / 1440:.1f} days"


def weighed(outputs: Iterable[Iterable[str]], config: Mapping) -> list[Job]:
    """Jobs with these outputs, by what a configuration's plan predicts for them."""
    from whysgd.machine import device_here
    from whysgd.plan import make_plan
    from whysgd.speeds import chosen_device

    plan = make_plan(config, chosen_device(None, device_here(config["device"])))
    known = [run.training.seconds for run in plan.runs.values() if run.training.seconds is not None]
    usual = median(known) if known else 60.0

    def sure(seconds: float | None) -> float:
        return usual if seconds is None else seconds

    jobs = []
    for files in outputs:
        trains, measures, seconds = set(), set(), 0.0
        for file in map(str, files):
            if match := METRICS.search(file):
                key = (match[1], match[2], int(match[3]))
                trains.add(key)
                seconds += sure(plan.runs[key].training.seconds) if key in plan.runs else usual
            elif match := MEASURE.search(file):
                key = (match[1], match[2], int(match[3]))
                measures.add(key)
                whole = sure(plan.runs[key].measuring.seconds) if key in plan.runs else usual
                seconds += whole / max(1, len(config["measures"]))
            elif match := LANDSCAPE.search(file):
                found = plan.landscapes.get((match[1], match[2], match[4]))
                seconds += sure(found.cost.seconds if found else None) / int(match[5])
        seconds = seconds or (OTHER if files else 0.0)
        jobs.append(Job(seconds, frozenset(trains), frozenset(measures)))
    return jobs


class Listener(logging.Handler):
    """Hears of a workflow's jobs, and prints a line now and then, in a thread that ends with the workflow.

    Args:
        workflow: Snakemake's.
        config: the validated configuration.
        seconds: between two lines.
    """

    def __init__(self, workflow, config: Mapping, seconds: float):
        super().__init__(logging.INFO)
        self.workflow, self.config, self.seconds = workflow, config, seconds
        self.overall: Overall | None = None
        self.heard: queue.SimpleQueue = queue.SimpleQueue()
        self.thread: threading.Thread | None = None
        self.ended = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        """Take note of what a record says; it takes microseconds, but for the first."""
        event = getattr(getattr(record, "event", None), "name", "")
        now = time.monotonic()
        if event == "JOB_STARTED":
            if self.thread is None:
                self._begin(now)
            for number in record.jobs:
                self.heard.put((Overall.start, number, now))
        elif event == "JOB_FINISHED":
            self.heard.put((Overall.finish, record.job_id, now))
        elif event == "JOB_ERROR":
            self.heard.put((Overall.fail, record.jobid, now))

    def close(self) -> None:
        """End the thread, and say that all is done if it is: Snakemake closes its handlers at its end."""
        if not self.ended.is_set():
            self.ended.set()
            if self.thread is not None:
                self.thread.join(2.0)
            if self.overall is not None:
                self._catch_up()
                if self.overall.finished:
                    self._print(self.overall.line(time.monotonic()))
        super().close()

    def _begin(self, now: float) -> None:
        """Note which jobs there are, while the graph stands still, and start the thread."""
        if self.workflow.touch:
            self.ended.set()
        dag = self.workflow.dag
        needed = set(dag.needrun_jobs(exclude_finished=False))
        numbers = [dag.jobid(job) if job in needed else f"before {place}" for place, job in enumerate(dag.jobs)]
        outputs = [list(map(str, job.output)) for job in dag.jobs]
        self.thread = threading.Thread(target=self._run, args=(numbers, outputs, now), daemon=True)
        self.thread.start()

    def _run(self, numbers: list, outputs: list[list[str]], begun: float) -> None:
        try:
            jobs = dict(zip(numbers, weighed(outputs, self.config), strict=True))
        except UserError as error:  # The workflow itself needs no predictions.
            self._print(f"whysgd: no progress is shown: {error}")
            return
        for number, job in jobs.items():
            job.done = isinstance(number, str)
        self.overall = Overall(jobs, begun)
        shown = time.monotonic()
        while not self.ended.wait(max(0.05, shown + self._pause(begun) - time.monotonic())):
            shown = time.monotonic()
            self._catch_up()
            if not self.overall.finished:
                self._print(self.overall.line(shown))

    def _pause(self, begun: float) -> float:
        return max(self.seconds, PART * (time.monotonic() - begun))

    def _catch_up(self) -> None:
        """Bring what was heard into the books."""
        while not self.heard.empty():
            note, number, now = self.heard.get()
            note(self.overall, number, now)

    @staticmethod
    def _print(line: str) -> None:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()


def show_progress(workflow, config: Mapping) -> None:
    """Have the progress of a workflow printed once it starts jobs, which a dry run does not; not if it shall be quiet.

    The environment's `WHYSGD_PROGRESS_SECONDS` says how often; 0: never.
    """
    from snakemake.logging import logger

    quiet = Counter(
        str(getattr(what, "name", what)).upper() for what in getattr(workflow.output_settings, "quiet", None) or ()
    )
    try:
        seconds = float(os.environ.get(VARIABLE, TERMINAL if sys.stderr.isatty() else ELSEWHERE))
    except ValueError:
        sys.exit(f"error: {VARIABLE} = {os.environ[VARIABLE]!r}: must be a number of seconds")
    if quiet["ALL"] or quiet["PROGRESS"] or not 0 < seconds < float("inf"):
        return
    logger.addHandler(Listener(workflow, config, seconds))
