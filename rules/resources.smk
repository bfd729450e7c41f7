# What jobs ask of a scheduler. None of it decides a result, so a change of it is no reason to run a job again. Each
# attempt asks for twice the time of the one before, and for more memory.
import signal

from whysgd.study.cost import load_device

GPU = int(CONFIG["device"] != "cpu")
DEVICE = load_device("gpu" if GPU else "cpu")
MEMORY_MARGIN = 1.5


def minutes(cost):
    """A function for `runtime`, from one that predicts the cost of a job."""

    def asked(wildcards, attempt):
        seconds, cluster = cost(wildcards).seconds, CONFIG["cluster"]
        predicted = cluster["minutes"] + cluster["margin"] * seconds / 60
        return min(cluster["longest"], round(predicted * 2 ** (attempt - 1)))

    return asked


def megabytes(cost):
    """A function for `mem_mb`, from one that predicts the cost of a job."""

    def asked(wildcards, attempt):
        return round(max(CONFIG["cluster"]["memory_mb"], MEMORY_MARGIN * cost(wildcards).memory_mb) * attempt)

    return asked


def cost_of_training(wildcards):
    return STUDY.training_cost(wildcards.paper, wildcards.run, wildcards.seeds, DEVICE)


def cost_of_measuring(wildcards):
    return STUDY.measuring_cost(wildcards.paper, wildcards.run, wildcards.seeds, wildcards.measures, DEVICE)


def cost_of_landscape(wildcards):
    return STUDY.landscape_cost(wildcards.paper, wildcards.run, wildcards.kind, DEVICE)


training_minutes, training_memory = minutes(cost_of_training), megabytes(cost_of_training)
measuring_minutes, measuring_memory = minutes(cost_of_measuring), megabytes(cost_of_measuring)
landscape_minutes, landscape_memory = minutes(cost_of_landscape), megabytes(cost_of_landscape)

# Snakemake does not say so, and on a cluster `cores` is not what one thinks of.
if workflow.is_main_process and CONFIG["threads"] > (cores := workflow.resource_settings.cores or CONFIG["threads"]):
    print(f"warning: threads = {CONFIG['threads']}: a job gets at most --cores, {cores} here", file=sys.stderr)

# Before a time limit Slurm sends SIGUSR1 to all processes of a job: training saves and ends, and Snakemake waits for it.
if workflow.remote_exec:
    signal.signal(signal.SIGUSR1, lambda number, frame: None)
