# papers/ and config.yaml -> a specification for each run -> train -> frame -> tables, figures, claims -> page.
import os
import sys

from snakemake.utils import min_version

min_version("9.0")


configfile: os.path.join(workflow.basedir, "config.yaml")


sys.path.insert(0, workflow.basedir)

from whysgd.study.jobs import use_this_copy

use_this_copy(workflow.basedir)


for part in ("common", "jobs", "data", "train", "measure", "tables", "figures", "report", "records"):

    include: f"rules/{part}.smk"


wildcard_constraints:
    scale=SCALE,
    dataset="[A-Za-z0-9_.-]+",
    store="[a-z0-9-]+",
    paper="|".join(CONFIG["papers"]),
    run="[A-Za-z0-9_.-]+",
    seed=r"\d+",


rule all:
    default_target: True
    localrule: True
    input:
        [outputs_of(paper) for paper in CONFIG["papers"]],
        measure_outputs(),
        f"results/{SCALE}/index.html",


for paper in CONFIG["papers"]:

    rule:
        name:
            paper
        localrule: True
        input:
            outputs_of(paper),


onsuccess:
    # A target that needs no table, one run's metrics say, leaves nothing to print.
    if any(os.path.exists(table) for paper in CONFIG["papers"] for table in tables_of(paper, "md")):
        shell("python -m whysgd show {SCALE:q} >&2")
