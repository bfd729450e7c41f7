# One figure for each table and kind.


rule plot_curves:
    input:
        runs="results/{scale}/frames/{paper}_runs.csv",
        histories="results/{scale}/frames/{paper}_histories.csv",
    output:
        svg=report(
            "results/{scale}/figures/{paper}_{table}_curves.svg",
            category="{paper}",
            subcategory="Figures",
            caption="../docs/captions/curves.rst",
        ),
        png="results/{scale}/figures/{paper}_{table}_curves.png",
    log:
        "results/{scale}/logs/plot_curves/{paper}_{table}.log",
    params:
        table=table_of,
        code=code_digest("workflow_scripts/plot_curves.py"),
    threads: 1
    conda:
        "../envs/whysgd.yaml"
    script:
        "../workflow_scripts/plot_curves.py"


rule plot_comparison:
    input:
        runs="results/{scale}/frames/{paper}_runs.csv",
        table="results/{scale}/tables/{paper}_{table}.csv",
    output:
        svg=report(
            "results/{scale}/figures/{paper}_{table}_comparison.svg",
            category="{paper}",
            subcategory="Figures",
            caption="../docs/captions/comparison.rst",
        ),
        png="results/{scale}/figures/{paper}_{table}_comparison.png",
    log:
        "results/{scale}/logs/plot_comparison/{paper}_{table}.log",
    params:
        table=table_of,
        code=code_digest("workflow_scripts/plot_comparison.py"),
    threads: 1
    conda:
        "../envs/whysgd.yaml"
    script:
        "../workflow_scripts/plot_comparison.py"
