# The configuration as STUDY (whysgd/study/workflow.py), which says what each job reads, and what rules share.
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
    dataset="[A-Za-z0-9_.-]+",
    store="[a-z0-9-]+",
    kind="line|plane",
    chunk=r"\d+",
    chunks=r"\d+",


def training_options(wildcards, input):
    """The options of a training job that name its stored copies, or the logs that it grafts from."""
    return " ".join(f"--{name} {input.get(name)}" for name in ("store", "norms") if input.get(name))


def frames(name):
    """The frames of all papers: their runs, histories or measures."""
    return [paths.FRAME.format(scale=STUDY.scale, paper=paper, frame=name) for paper in CONFIG["papers"]]


def table_labels(wildcards):
    """What Snakemake's report says of a table."""
    return {"table": STUDY.table(wildcards.paper, wildcards.table)["title"]}


def figure_labels(wildcards):
    """What Snakemake's report says of a figure of a table."""
    return {**table_labels(wildcards), "figure": wildcards.figure.replace("_", " ")}
