# All runs of a paper in one frame, all their histories in another, all that was measured of them in a third.


rule collect_runs:
    input:
        metrics=lambda w: STUDY.batch_files("metrics.json", w.paper),
        histories=lambda w: STUDY.batch_files("history.csv", w.paper),
    output:
        runs=paths.RUNS,
        histories=paths.HISTORIES,
    log:
        "results/{scale}/logs/collect_runs/{paper}.log",
    params:
        code=code_digest("workflow_scripts/collect_runs.py"),
    conda:
        "../envs/whysgd.yaml"
    script:
        "../workflow_scripts/collect_runs.py"


rule collect_measures:
    input:
        measures=lambda w: STUDY.measure_files(w.paper),
    output:
        csv=paths.MEASURED,
    log:
        "results/{scale}/logs/collect_measures/{paper}.log",
    params:
        code=code_digest("workflow_scripts/collect_measures.py"),
    conda:
        "../envs/whysgd.yaml"
    script:
        "../workflow_scripts/collect_measures.py"
