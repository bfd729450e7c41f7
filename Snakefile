# papers/ and config.yaml -> runs -> train -> measure -> collect -> tables, figures, claims -> page.
import os
import sys

from snakemake.utils import min_version

min_version("9.0")


configfile: os.path.join(workflow.basedir, "config.yaml")


sys.path.insert(0, workflow.basedir)


include: "rules/common.smk"
include: "rules/data.smk"
include: "rules/train.smk"
include: "rules/measure.smk"
include: "rules/collect_records.smk" if STUDY.recorded else "rules/collect.smk"
include: "rules/tables.smk"
include: "rules/figures.smk"
include: "rules/report.smk"


rule all:
    default_target: True
    localrule: True
    input:
        [outputs.outputs(STUDY, paper) for paper in CONFIG["papers"]],
        outputs.summary_files(STUDY, "table.md", "table.html", "summary.md", "summary.html"),
        paths.PAGE.format(scale=STUDY.scale),


# `snakemake geiping2022` makes what belongs to one paper.
for paper in CONFIG["papers"]:

    rule:
        name:
            paper
        localrule: True
        input:
            outputs.outputs(STUDY, paper),


onsuccess:
    # A target such as one run's metrics.json makes no table: then there is nothing to print.
    if os.path.exists(os.path.dirname(paths.TABLE.format(scale=STUDY.scale, paper="", table=""))):
        shell("python -m whysgd show --scale {STUDY.scale:q} >&2")


onerror:
    shell("python -m whysgd explain-failure {log:q} >&2")
