# The index page of a scale, and what Snakemake's own report begins with.


report: "../docs/report.rst"


rule write_page:
    input:
        frames=[f"results/{SCALE}/frames/{paper}_runs.csv" for paper in CONFIG["papers"]],
        tables=[tables_of(paper, "csv") for paper in CONFIG["papers"]],
        figures=[figures_of(paper, "png") for paper in CONFIG["papers"]],
        trajectories=[trajectory_files(paper, "png", "gif") for paper in CONFIG["papers"]],
        claims=[claims_of(paper, "csv") for paper in CONFIG["papers"]],
        measures=measure_outputs("table.csv", "tidy.csv", "reading.md", "figure"),
        metrics=[record_of(spec) if RECORDED else f"{spec.folder}/metrics.json" for spec in RUNS.values()],
        histories=[f"results/{SCALE}/frames/{paper}_histories.csv" for paper in CONFIG["papers"]],
    output:
        page="results/{scale}/index.html",
    log:
        "results/{scale}/logs/write_page.log",
    params:
        papers=page_contents(),
        measures=page_measures(),
        code=code_digest("workflow_scripts/write_page.py", *PAGE_TEMPLATES),
    threads: 1
    conda:
        "../envs/whysgd.yaml"
    script:
        "../workflow_scripts/write_page.py"
