# The index page of a scale.


rule write_page:
    input:
        frames=[f"results/{SCALE}/frames/{paper}_runs.csv" for paper in CONFIG["papers"]],
        tables=[tables_of(paper, "csv") for paper in CONFIG["papers"]],
        figures=[figures_of(paper, "png") for paper in CONFIG["papers"]],
        trajectories=[trajectory_files(paper, "png", "gif") for paper in CONFIG["papers"]],
        claims=[claims_of(paper, "csv") for paper in CONFIG["papers"]],
        measures=measure_outputs("table.csv", "reading.md", "figure"),
    output:
        page="results/{scale}/index.html",
    log:
        "results/{scale}/logs/write_page.log",
    params:
        papers=page_contents(),
        measures=page_measures(),
        code=code_digest("workflow_scripts/write_page.py", "whysgd/reporting/templates/index.html"),
    threads: 1
    conda:
        "../envs/whysgd.yaml"
    script:
        "../workflow_scripts/write_page.py"
