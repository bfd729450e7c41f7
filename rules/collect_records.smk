# With `from: records` the frames of a paper come from the records of the repository: nothing is trained or measured.


rule collect_records:
    input:
        records=lambda w: STUDY.records(w.paper),
    output:
        runs=paths.RUNS,
        histories=paths.HISTORIES,
        measures=paths.MEASURED,
    log:
        "results/{scale}/logs/collect_records/{paper}.log",
    params:
        options={name: STUDY.measuring.get(name, {}) for name in CONFIG["measures"]},
        # Which records are of older code, too, depends on all that trains and measures.
        code=code_digest(
            "workflow_scripts/collect_records.py",
            "whysgd.training.loop",
            "whysgd.measures.run",
            *(f"whysgd.measures.{name}" for name in CONFIG["measures"]),
        ),
        same_results=same_results_digest(),
    conda:
        "../envs/whysgd.yaml"
    script:
        "../workflow_scripts/collect_records.py"
