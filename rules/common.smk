# The configuration, and the input functions of the rules: names in, paths or values out.
import json
import re
import signal

from whysgd.errors import UserError
from whysgd.results import paths
from whysgd.results.recorded import same_results_digest, with_records
from whysgd.study import outputs
from whysgd.study.codedigest import code_digest, landscape_code, measuring_code, training_code
from whysgd.study.config import DEFAULT_FILE, retyped, validate_config
from whysgd.study.figures import caption
from whysgd.study.workflow import Study, use_this_copy

use_this_copy(workflow.basedir)
for key in workflow.config_settings.config:
    config[key] = retyped(config[key])
try:
    CONFIG = validate_config(config, [DEFAULT_FILE, *workflow.overwrite_configfiles])
    if CONFIG["from"] == "records":
        CONFIG = with_records(CONFIG)
    STUDY = Study(CONFIG)
except UserError as error:
    sys.exit(f"error: {error}")


if workflow.is_main_process:
    for line in CONFIG.get("left_out", ()):
        print(f"warning: {line}", file=sys.stderr)
GPU = int(CONFIG["device"] != "cpu")
# Snakemake does not say so, and on a cluster `cores` is not what one thinks of.
if workflow.is_main_process and CONFIG["threads"] > (cores := workflow.resource_settings.cores or CONFIG["threads"]):
    print(f"warning: threads = {CONFIG['threads']}: a job gets at most --cores, {cores} here", file=sys.stderr)
# Before a time limit a scheduler may send SIGUSR1 to all processes of a job: Snakemake waits for the training to save.
if workflow.remote_exec:
    signal.signal(signal.SIGUSR1, lambda number, frame: None)


# For `--sdm apptainer`; without that option it does nothing.
if CONFIG["container"]:

    container: CONFIG["container"]


wildcard_constraints:
    scale=STUDY.scale,
    paper="|".join(CONFIG["papers"]),
    run="[A-Za-z0-9_.-]+",
    seeds=r"seeds-\d+(-\d+)?",
    seed=r"\d+",
    dataset="[A-Za-z0-9_.-]+",
    store="[a-z0-9-]+",
    kind="line|plane",
    chunk=r"\d+",
    chunks=r"\d+",


def looked_up(method, *names):
    """An input or params function that hands these wildcards to a method of the study."""

    def function(wildcards):
        try:
            return method(*(wildcards[name] for name in names))
        except UserError as error:
            raise WorkflowError(str(error))

    return function


training_inputs = looked_up(STUDY.training_inputs, "paper", "run", "seeds")
measuring_inputs = looked_up(STUDY.measuring_inputs, "paper", "run", "seeds")
landscape_inputs = looked_up(STUDY.landscape_inputs, "paper", "run", "seed", "kind")
landscape_options = looked_up(STUDY.landscape_options, "paper", "run", "kind")
dataset_files = looked_up(STUDY.dataset_files, "dataset")
training_cost = looked_up(STUDY.training_cost, "paper", "run", "seeds")
measuring_cost = looked_up(STUDY.measuring_cost, "paper", "run", "seeds", "measures")
landscape_cost = looked_up(STUDY.landscape_cost, "paper", "run", "kind")
class_folders = looked_up(STUDY.class_folders, "dataset")
spec_of = looked_up(STUDY.spec, "paper", "run")
training_code_of = looked_up(lambda *run: training_code(STUDY.spec(*run)), "paper", "run")
landscape_code_of = looked_up(lambda *run: landscape_code(STUDY.spec(*run)), "paper", "run")
spec_json = looked_up(STUDY.spec_json, "paper", "run")
measures_of_job = looked_up(STUDY.measures_of_job, "measures")
table_of = looked_up(STUDY.table, "paper", "table")
colours_of = looked_up(STUDY.colours, "paper", "table")
figure_inputs = looked_up(STUDY.figure_inputs, "paper", "table", "figure")
trajectories_of = looked_up(STUDY.trajectories, "paper")
claims_of = looked_up(STUDY.claims, "paper")


def store_options(wildcards):
    """How stored copies are made."""
    if (wildcards.dataset, wildcards.store) not in STUDY.stores():
        raise WorkflowError(f"no run of the configured papers trains on {wildcards.dataset}/{wildcards.store}")
    return STUDY.stores()[wildcards.dataset, wildcards.store]


def training_options(wildcards, input):
    """The options of a training job that name its stored copies, or the logs that it grafts from."""
    return " ".join(f"--{name} {input.get(name)}" for name in ("store", "norms") if input.get(name))


def measuring_options(wildcards):
    """The options of the measures of a job."""
    return {name: STUDY.measuring.get(name, {}) for name in measures_of_job(wildcards)}


def measuring_code_of(wildcards):
    """The digest of the code of the measures of a job."""
    return measuring_code(spec_of(wildcards), *measures_of_job(wildcards))


def table_inputs(wildcards):
    """The frames that a table is made of."""
    return STUDY.frames(wildcards.paper, [row["metric"] for row in table_of(wildcards)["rows"]])


def claims_inputs(wildcards):
    """The frames that the claims of a paper are judged on."""
    return STUDY.frames(wildcards.paper, [claim.metric for claim in claims_of(wildcards)], "histories")


def frames(name):
    """The frames of this name of all papers."""
    return [paths.FRAME.format(scale=STUDY.scale, paper=paper, frame=name) for paper in CONFIG["papers"]]


def table_labels(wildcards):
    """What Snakemake's report says of a table."""
    return {"table": table_of(wildcards)["title"]}


def figure_labels(wildcards):
    """What Snakemake's report says of a figure of a table."""
    return {**table_labels(wildcards), "figure": wildcards.figure.replace("_", " ")}
