# What jobs ask of a scheduler: minutes, memory and a partition. None of these decides a result, so none of them is a
# reason to run a job again. Each attempt asks for twice the time of the one before, and for more memory.
import signal
from dataclasses import replace
from functools import cache

from whysgd.study.cost import images_of, landscape_cost, measuring_cost, training_cost
from whysgd.study.speeds import chosen_device, load_speeds

ASKED = CONFIG["cluster"]
GPU = int(CONFIG["device"] != "cpu")
MEMORY_MARGIN = 1.5


@cache
def measured_device():
    """The device whose speeds are the nearest to those of the jobs': of their kind, if one was measured.

    Else one of another kind, whose times are not theirs, but in whose place they need as much of the computer's memory.
    """
    kind = "gpu" if GPU else "cpu"
    found = next((device for device in load_speeds().values() if device.about["kind"] == kind), chosen_device())
    return replace(found, about={**found.about, "kind": kind})


@cache
def cost_of_training(paper, run, count):
    """Of a job that trains so many seeds of a run."""
    specs = ALL_SEEDS[paper, run][:count]
    return training_cost(specs, images_of(CONFIG, specs[0].dataset), measured_device())


@cache
def cost_of_measuring(paper, run, measures):
    """Of a job that takes these measures of one seed of a run."""
    spec = ALL_SEEDS[paper, run][0]
    return measuring_cost(spec, measures, MEASURING, images_of(CONFIG, spec.dataset), measured_device())


@cache
def cost_of_landscape(paper, run, kind):
    """Of all parts of a landscape."""
    spec = ALL_SEEDS[paper, run][0]
    return landscape_cost(spec, kind, MEASURING["landscape"], images_of(CONFIG, spec.dataset), measured_device())


def minutes(seconds, attempt):
    """Minutes to ask for, of what is predicted to take so many seconds; None, unknown, asks for the longest."""
    asked = ASKED["longest"] if seconds is None else ASKED["minutes"] + ASKED["margin"] * seconds / 60
    return min(ASKED["longest"], round(asked * 2 ** (attempt - 1)))


def megabytes(predicted, attempt):
    """Megabytes to ask for, of what is predicted to need so many: that is better known than time."""
    return round(max(ASKED["memory_mb"], MEMORY_MARGIN * predicted) * attempt)


def training_resources():
    """Functions for `runtime` and `mem_mb` of a rule that trains."""

    def cost(wildcards):
        specs = specs_of(wildcards)
        return cost_of_training(wildcards.paper, wildcards.run, len(specs))

    return of_cost(cost)


def measuring_resources(measures):
    """The same of a rule that takes these measures of a run, or of all its seeds."""

    def cost(wildcards):
        one = cost_of_measuring(wildcards.paper, wildcards.run, tuple(measures))
        return sum([one] * (len(specs_of(wildcards)) - 1), start=one)

    return of_cost(cost)


def landscape_resources():
    """The same of a part of a landscape."""

    def cost(wildcards):
        spec_of(wildcards)
        whole = cost_of_landscape(wildcards.paper, wildcards.run, wildcards.kind)
        seconds = None if whole.seconds is None else whole.seconds / int(wildcards.chunks)
        return type(whole)(seconds, whole.memory_mb, whole.disk_mb)

    return of_cost(cost)


def of_cost(cost):
    """Functions of wildcards and the attempt, from one that predicts a job's cost."""
    return {
        "runtime": lambda wildcards, attempt: minutes(cost(wildcards).seconds, attempt),
        "mem_mb": lambda wildcards, attempt: megabytes(cost(wildcards).memory_mb, attempt),
    }


def partition():
    """Where jobs that may use a GPU go: a profile's `gpu_partition`, or its `slurm_partition` for `device: cpu`."""
    given = (workflow.resource_settings.default_resources or {}).get("gpu_partition" if GPU else "slurm_partition")
    return None if given is None else str(getattr(given, "raw", given)).strip("\"'")


def longest_wait(wildcards):
    """Seconds that a job waits for another one that trains in its folder: none on this machine, on a cluster a day."""
    return 0 if workflow.local_exec and not workflow.remote_exec else 24 * 3600


# Snakemake does not say so, and on a cluster `cores` is not what one thinks of.
if workflow.is_main_process and CONFIG["threads"] > (cores := workflow.resource_settings.cores or CONFIG["threads"]):
    print(f"warning: threads = {CONFIG['threads']}: a job gets at most --cores, {cores} here", file=sys.stderr)

# Before a time limit Slurm sends SIGUSR1 to all processes of a job: training saves and ends, and Snakemake waits for it.
if workflow.remote_exec:
    signal.signal(signal.SIGUSR1, lambda number, frame: None)
    # A warm worker is another job's process, which Slurm neither tells nor counts.
    offer(False)
