# With `from: records` the frames of a paper come from the committed records, and nothing is trained or measured.


if RECORDED:

    rule collect_records:
        input:
            records=records_of,
        output:
            runs="results/{scale}/frames/{paper}_runs.csv",
            histories="results/{scale}/frames/{paper}_histories.csv",
            measures="results/{scale}/frames/{paper}_measures.csv",
        log:
            "results/{scale}/logs/collect_records/{paper}.log",
        params:
            options={name: MEASURING.get(name, {}) for name in CONFIG["measures"]},
            # Which records are of older code, too: that depends on all that trains and measures.
            code=code_digest(
                "workflow_scripts/collect_records.py",
                "whysgd.training.loop",
                "whysgd.measures.run",
                *(f"whysgd.measures.{name}" for name in CONFIG["measures"]),
            ),
            same_results=same_results(),
        threads: 1
        conda:
            "../envs/whysgd.yaml"
        script:
            "../workflow_scripts/collect_records.py"

    ruleorder: collect_records > collect_runs
    ruleorder: collect_records > collect_measures
