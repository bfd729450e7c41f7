"""How many jobs at a time make the most steps: one is measured alone, then two, four, … of the same side by side.

`python -m whysgd train … --probe` is one of these: it prints a line when it is ready, after the first steps, which are
slow, and then for each line on its standard input (a number of seconds) the steps per second that it made.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from whysgd.spec import RunSpec

# With this many times the steps per second, twice the jobs are worth their memory.
GAIN = 1.1
SECONDS, FIRST_STEPS = 2.0, 3
# Steps that a probe gives a GPU before it waits for it.
AHEAD = 16


def best_number(rate: Callable[[int], float | None], most: int) -> tuple[int, dict[int, float]]:
    """The number of jobs, of 1, 2, 4, …, beyond which twice as many make less than `GAIN` times the steps.

    Args:
        rate: of so many jobs at once, the steps per second of all; None if that cannot be measured.
        most: jobs.

    Returns:
        the number, and the rates that were measured.
    """
    rates: dict[int, float] = {}
    number = 1
    while number <= most and (measured := rate(number)) is not None:
        rates[number] = measured
        if number > 1 and measured < GAIN * rates[number // 2]:
            return number // 2, rates
        number *= 2
    return max(rates, default=1), rates


def measured_number(
    command: Sequence[str], variables: Mapping[str, str], most: int, until: float, asked
) -> tuple[int, dict[int, float]]:
    """`best_number` for a training job on this machine; at most until a moment, or until it is asked to end.

    Args:
        command: of the job; its folder is not touched.
        variables: added to its environment.
        most: jobs.
        until: of `time.monotonic`.
        asked: see `whysgd.training.stopping.stop_requests`.
    """
    with ExitStack() as ended:
        probes: list[subprocess.Popen] = []

        def rate(number: int) -> float | None:
            while len(probes) < number:
                probes.append(ended.enter_context(_probe(command, variables)))
                ended.callback(probes[-1].kill)
            if not all(_answers(one, until, asked) for one in probes[number // 2 :]):
                return None
            try:
                for one in probes:
                    one.stdin.write(b"%f\n" % SECONDS)
                    one.stdin.flush()
            except BrokenPipeError:  # One has died.
                return None
            found = [_answers(one, until, asked) for one in probes]
            return None if None in found else sum(found)

        return best_number(rate, most)


def _probe(command: Sequence[str], variables: Mapping[str, str]) -> subprocess.Popen:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(
        [sys.executable, "-m", "whysgd", *command, "--probe"], env={**os.environ, **variables}, **pipes
    )


def _answers(process: subprocess.Popen, until: float, asked) -> float | None:
    """The next number that a probe prints, or None if none comes in time."""
    os.set_blocking(process.stdout.fileno(), False)
    line = b""
    while not line.endswith(b"\n"):
        part = process.stdout.read()
        if part == b"" or asked or time.monotonic() > until:
            return None
        line += part or b""
        time.sleep(0.01)
    return float(line)


def probe(
    spec: RunSpec, data: Path, device, engine: str, images_on: str, store: Path | None, norms: Path | None
) -> None:
    """Be one of the jobs; see the module. The arguments are those of `whysgd.training.loop.train_runs`."""
    from whysgd.data.canonical import load_dataset
    from whysgd.training.loop import open_copies, read_reference
    from whysgd.training.trainer import Trainer

    dataset = load_dataset(data)
    trainer = Trainer(
        spec, dataset, device, engine=engine, images_on=images_on, store=open_copies(spec, dataset, store),
        norms=read_reference(spec, dataset, norms),
    )  # fmt: skip
    state, start = trainer.state, trainer.state.theta.clone()

    def steps(seconds: float, least: int) -> float:
        begin, made = time.perf_counter(), 0
        while made < least or time.perf_counter() - begin < seconds:
            if state.step >= trainer.total - 1:
                state.step = state.blocks = 0
                state.theta.copy_(start)
            loss, made = trainer.step()["step_loss"], made + 1
            if made % AHEAD == 0:
                float(loss)
        float(loss)
        return made / (time.perf_counter() - begin)

    print(steps(0, FIRST_STEPS), flush=True)
    for line in sys.stdin:
        print(steps(float(line), 1), flush=True)
