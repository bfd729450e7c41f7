# From finished runs to the papers' tables and the verdicts on their claims.


rule collect_runs:
    input:
        metrics=results_of("metrics.json"),
        histories=results_of("history.csv"),
    output:
        runs="results/{scale}/frames/{paper}_runs.csv",
        histories="results/{scale}/frames/{paper}_histories.csv",
    log:
        "results/{scale}/logs/collect_runs/{paper}.log",
    params:
        code=code_digest("workflow_scripts/collect_runs.py"),
    threads: 1
    conda:
        "../envs/whysgd.yaml"
    script:
        "../workflow_scripts/collect_runs.py"


rule make_table:
    input:
        unpack(tabulated_from),
    output:
        csv="results/{scale}/tables/{paper}_{table}.csv",
        md="results/{scale}/tables/{paper}_{table}.md",
        tex="results/{scale}/tables/{paper}_{table}.tex",
        html=report(
            "results/{scale}/tables/{paper}_{table}.html",
            category="{paper}",
            subcategory="Tables",
            caption="../docs/captions/table.rst",
            labels=table_labels,
        ),
    log:
        "results/{scale}/logs/make_table/{paper}_{table}.log",
    params:
        table=table_of,
        code=code_digest("workflow_scripts/make_table.py"),
    threads: 1
    conda:
        "../envs/whysgd.yaml"
    script:
        "../workflow_scripts/make_table.py"


rule check_claims:
    input:
        unpack(judged_from),
    output:
        csv="results/{scale}/claims/{paper}.csv",
        md="results/{scale}/claims/{paper}.md",
        html=report(
            "results/{scale}/claims/{paper}.html",
            category="{paper}",
            subcategory="Claims",
            caption="../docs/captions/claims.rst",
            labels={"claims of": "{paper}"},
        ),
    log:
        "results/{scale}/logs/check_claims/{paper}.log",
    params:
        claims=lambda wildcards: claims_at(CONFIG, wildcards.paper),
        code=code_digest("workflow_scripts/check_claims.py"),
    threads: 1
    conda:
        "../envs/whysgd.yaml"
    script:
        "../workflow_scripts/check_claims.py"


rule collect_measures:
    input:
        measures=measures_of,
    output:
        csv="results/{scale}/frames/{paper}_measures.csv",
    log:
        "results/{scale}/logs/collect_measures/{paper}.log",
    params:
        code=code_digest("workflow_scripts/collect_measures.py"),
    threads: 1
    conda:
        "../envs/whysgd.yaml"
    script:
        "../workflow_scripts/collect_measures.py"


rule tabulate_measures:
    input:
        measures=[f"results/{SCALE}/frames/{paper}_measures.csv" for paper in CONFIG["papers"]],
        runs=[f"results/{SCALE}/frames/{paper}_runs.csv" for paper in CONFIG["papers"]],
    output:
        tidy="results/{scale}/measures/tidy.csv",
        wide="results/{scale}/measures/runs.csv",
        csv="results/{scale}/measures/table.csv",
        md="results/{scale}/measures/table.md",
        html=report(
            "results/{scale}/measures/table.html",
            category="Every run, every ruler",
            caption="../docs/captions/measures.rst",
            labels={"shows": "Every measure of every run"},
        ),
    log:
        "results/{scale}/logs/tabulate_measures.log",
    params:
        code=code_digest("workflow_scripts/tabulate_measures.py"),
    threads: 1
    conda:
        "../envs/whysgd.yaml"
    script:
        "../workflow_scripts/tabulate_measures.py"


rule write_reading:
    input:
        correlations="results/{scale}/measures/correlations.csv",
        measures="results/{scale}/measures/tidy.csv",
        runs=[f"results/{SCALE}/frames/{paper}_runs.csv" for paper in CONFIG["papers"]],
    output:
        md="results/{scale}/measures/reading.md",
        html=report(
            "results/{scale}/measures/reading.html",
            category="Every run, every ruler",
            caption="../docs/captions/reading.rst",
            labels={"shows": "What the measures say"},
        ),
    log:
        "results/{scale}/logs/write_reading.log",
    params:
        code=code_digest("workflow_scripts/write_reading.py"),
    threads: 1
    conda:
        "../envs/whysgd.yaml"
    script:
        "../workflow_scripts/write_reading.py"
