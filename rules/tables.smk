# The papers' tables, with measured numbers beside published ones, and verdicts on the papers' claims.


rule make_table:
    input:
        unpack(lambda w: STUDY.table_inputs(w.paper, w.table)),
    output:
        csv=f"{paths.TABLE}.csv",
        md=f"{paths.TABLE}.md",
        tex=f"{paths.TABLE}.tex",
        html=report(
            f"{paths.TABLE}.html",
            category="{paper}",
            subcategory="Tables",
            caption="../docs/captions/table.rst",
            labels=table_labels,
        ),
    log:
        "results/{scale}/logs/make_table/{paper}_{table}.log",
    params:
        table=lambda w: STUDY.table(w.paper, w.table),
        code=code_digest("workflow_scripts/make_table.py"),
    conda:
        "../envs/whysgd.yaml"
    script:
        "../workflow_scripts/make_table.py"


rule check_claims:
    input:
        unpack(lambda w: STUDY.claims_inputs(w.paper)),
    output:
        csv=f"{paths.CLAIMS}.csv",
        md=f"{paths.CLAIMS}.md",
        html=report(
            f"{paths.CLAIMS}.html",
            category="{paper}",
            subcategory="Claims",
            caption="../docs/captions/claims.rst",
            labels={"claims of": "{paper}"},
        ),
    log:
        "results/{scale}/logs/check_claims/{paper}.log",
    params:
        claims=lambda w: STUDY.claims(w.paper),
        code=code_digest("workflow_scripts/check_claims.py"),
    conda:
        "../envs/whysgd.yaml"
    script:
        "../workflow_scripts/check_claims.py"


# One table, one figure and one page of text for everything: each run of each paper, with every measure.
rule summarize_measures:
    input:
        measures=frames("measures"),
        runs=frames("runs"),
    output:
        tidy=f"{paths.SUMMARY}/tidy.csv",
        wide=f"{paths.SUMMARY}/runs.csv",
        md=f"{paths.SUMMARY}/table.md",
        html=report(
            f"{paths.SUMMARY}/table.html",
            category="Every run, every measure",
            caption="../docs/captions/measures.rst",
            labels={"shows": "table"},
        ),
        correlations=f"{paths.SUMMARY}/correlations.csv",
        svg=report(
            f"{paths.CORRELATIONS}.svg",
            category="Every run, every measure",
            caption="../docs/captions/correlations.rst",
            labels={"shows": "rank correlations with generalization"},
        ),
        png=f"{paths.CORRELATIONS}.png",
        summary_md=f"{paths.SUMMARY}/summary.md",
        summary_html=report(
            f"{paths.SUMMARY}/summary.html",
            category="Every run, every measure",
            caption="../docs/captions/summary.rst",
            labels={"shows": "summary in words"},
        ),
    log:
        "results/{scale}/logs/summarize_measures.log",
    params:
        code=code_digest("workflow_scripts/summarize_measures.py"),
    conda:
        "../envs/whysgd.yaml"
    script:
        "../workflow_scripts/summarize_measures.py"
