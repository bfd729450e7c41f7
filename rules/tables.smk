# The papers' tables, with measured numbers beside published ones, and verdicts on the papers' claims.


rule make_table:
    input:
        unpack(table_inputs),
    output:
        csv=paths.TABLE + ".csv",
        md=paths.TABLE + ".md",
        tex=paths.TABLE + ".tex",
        html=report(
            paths.TABLE + ".html",
            category="{paper}",
            subcategory="Tables",
            caption="../docs/captions/table.rst",
            labels=table_labels,
        ),
    log:
        paths.LOGS + "/make_table/{paper}_{table}.log",
    params:
        table=table_of,
        code=code_digest("workflow_scripts/make_table.py"),
    conda:
        "../envs/whysgd.yaml"
    script:
        "../workflow_scripts/make_table.py"


rule check_claims:
    input:
        unpack(claims_inputs),
    output:
        csv=paths.CLAIMS + ".csv",
        md=paths.CLAIMS + ".md",
        html=report(
            paths.CLAIMS + ".html",
            category="{paper}",
            subcategory="Claims",
            caption="../docs/captions/claims.rst",
            labels={"claims of": "{paper}"},
        ),
    log:
        paths.LOGS + "/check_claims/{paper}.log",
    params:
        claims=claims_of,
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
        tidy=paths.SUMMARY + "/tidy.csv",
        wide=paths.SUMMARY + "/runs.csv",
        csv=paths.SUMMARY + "/table.csv",
        md=paths.SUMMARY + "/table.md",
        html=report(
            paths.SUMMARY + "/table.html",
            category="Every run, every measure",
            caption="../docs/captions/measures.rst",
            labels={"shows": "table"},
        ),
        correlations=paths.SUMMARY + "/correlations.csv",
        svg=report(
            paths.CORRELATIONS + ".svg",
            category="Every run, every measure",
            caption="../docs/captions/correlations.rst",
            labels={"shows": "rank correlations with generalization"},
        ),
        png=paths.CORRELATIONS + ".png",
        summary_md=paths.SUMMARY + "/summary.md",
        summary_html=report(
            paths.SUMMARY + "/summary.html",
            category="Every run, every measure",
            caption="../docs/captions/summary.rst",
            labels={"shows": "summary in words"},
        ),
    log:
        paths.LOGS + "/summarize_measures.log",
    params:
        code=code_digest("workflow_scripts/summarize_measures.py"),
    conda:
        "../envs/whysgd.yaml"
    script:
        "../workflow_scripts/summarize_measures.py"
