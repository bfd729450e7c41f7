"""Jobs side by side, as processes that end with this one, until there are no more or the time is up."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path

from whysgd.runner.plan import DONE, FAILED, RUNNING, STOPPED, Job
from whysgd.training.stopping import ASKING

# Seconds between looks at the processes, and at runs that another process is training.
PAUSE, LONG_PAUSE = 0.02, 1.0
# With less left, a job would be stopped before it has done anything.
WORTHWHILE = 3.0
PR_SET_PDEATHSIG = 1


@dataclass
class Limits:
    """Moments of `time.monotonic`.

    Attributes:
        start: after it nothing is started.
        stop: at it, what runs is asked to end.
        kill: at it, what still runs is killed.
    """

    start: float = inf
    stop: float = inf
    kill: float = inf

    @classmethod
    def of(cls, begin: float, budget: float | None, lead: float) -> "Limits":
        """Those of so many seconds from `begin`, the last `lead` of them for ending."""
        if budget is None:
            return cls()
        end = begin + budget
        return cls(end - lead - WORTHWHILE, end - lead, end)


@dataclass
class _Running:
    job: Job
    slot: Mapping[str, str]
    process: subprocess.Popen
    begin: float


def run_jobs(
    jobs: Sequence[Job], slots: Sequence[Mapping[str, str]], limits: Limits, asked, say: Callable[[Job, float], None]
) -> None:
    """Do the jobs that can be done, first ones first, and note in each what became of it.

    Args:
        jobs: each after those that it needs.
        slots: as many jobs run at a time; each slot's variables are added to the environment of its jobs.
        limits: of time.
        asked: true as soon as everything shall end, see `whysgd.training.stopping.stop_requests`.
        say: is called with each job that has ended, and its seconds.
    """
    free, running, look = list(slots), [], -inf
    try:
        while not asked and time.monotonic() < limits.stop:
            if free and look <= time.monotonic() < limits.start:
                elsewhere = _start_ready(jobs, free, running, say)
                look = time.monotonic() + LONG_PAUSE if elsewhere else inf
            if not running and (look == inf or time.monotonic() >= limits.start):
                return
            time.sleep(PAUSE)
            look = -inf if _collect(free, running, say) else look
        for one in running:
            one.process.terminate()
        while running and time.monotonic() < limits.kill:
            time.sleep(PAUSE)
            _collect(free, running, say)
    finally:
        for one in running:
            one.process.kill()
            one.process.wait()
            one.job.state = STOPPED
            say(one.job, time.monotonic() - one.begin)


def _start_ready(jobs: Sequence[Job], free: list, running: list[_Running], say) -> bool:
    """Start jobs while there are slots; returns whether one has to wait for a process that is not ours."""
    elsewhere = False
    for job in jobs:
        if not free:
            break
        if not job.ready:
            continue
        if job.is_elsewhere():
            elsewhere = True
        elif (command := job.command()) is None:
            job.state = DONE
        else:
            try:
                running.append(_Running(job, free[0], _process(command, job.log, free[0]), time.monotonic()))
                job.state = RUNNING
                free.pop(0)
            except OSError as error:
                job.state, job.why = FAILED, f"cannot be started ({error.strerror or error})"
                say(job, 0.0)
    return elsewhere


def _collect(free: list, running: list[_Running], say) -> bool:
    """Take note of the processes that have ended; returns whether there were any."""
    ended = [one for one in running if one.process.poll() is not None]
    for one in ended:
        running.remove(one)
        free.append(one.slot)
        code = one.process.returncode
        stopped = code in (*(128 + number for number in ASKING), *(-number for number in ASKING))
        one.job.state = DONE if code == 0 else STOPPED if stopped else FAILED
        killed = f"killed by {signal.Signals(-code).name}" if code < 0 else ""
        one.job.why = killed or _last_line(one.job.log) or f"exit code {code}" if one.job.state == FAILED else ""
        say(one.job, time.monotonic() - one.begin)
    return bool(ended)


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n") if log.is_file() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _process(command: list[str], log: Path, variables: Mapping[str, str]) -> subprocess.Popen:
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "w", encoding="utf-8") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "whysgd", *command], env={**os.environ, **variables}, stdin=subprocess.DEVNULL,
            stdout=output, stderr=subprocess.STDOUT, preexec_fn=_end_with(os.getpid()),
        )  # fmt: skip


def _end_with(parent: int) -> Callable[[], None] | None:
    """What a new process does first: have the kernel ask it to end when its parent is gone, however that ended."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl

    def tie() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(128 + signal.SIGTERM)

    return tie
