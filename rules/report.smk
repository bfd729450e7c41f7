# The index page of a scale, and what Snakemake's own report begins with.


report: "../docs/report.rst"


rule write_page:
    input:
        runs=frames("runs"),
        histories=frames("histories"),
        shown=outputs.page_files(STUDY),
        measures=outputs.summary_files(STUDY, "runs.csv", "tidy.csv", "correlations.csv"),
        correlations=[paths.CORRELATIONS.format(scale=STUDY.scale) + ".svg"] if CONFIG["measures"] else [],
    output:
        page=paths.PAGE,
    log:
        "results/{scale}/logs/write_page.log",
    params:
        papers=outputs.page(STUDY),
        captions={name: caption(name) for name in ("measures", "correlations")},
        code=code_digest(
            "workflow_scripts/write_page.py",
            *(f"whysgd/report/templates/{name}" for name in ("index.html", "page.css", "page.js")),
        ),
    conda:
        "../envs/whysgd.yaml"
    script:
        "../workflow_scripts/write_page.py"
