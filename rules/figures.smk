# One figure for each table and kind, and one for each store.


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


rule plot_steps:
    input:
        runs="results/{scale}/frames/{paper}_runs.csv",
        histories="results/{scale}/frames/{paper}_histories.csv",
    output:
        svg=report(
            "results/{scale}/figures/{paper}_{table}_{measure}.svg",
            category="{paper}",
            subcategory="Figures",
            caption="../docs/captions/steps.rst",
        ),
        png="results/{scale}/figures/{paper}_{table}_{measure}.png",
    log:
        "results/{scale}/logs/plot_steps/{paper}_{table}_{measure}.log",
    wildcard_constraints:
        measure="accuracy|micro_norm",
    params:
        table=table_of,
        colours=colours_of,
        caption=lambda wildcards: CAPTIONS[wildcards.measure],
        code=code_digest("workflow_scripts/plot_steps.py"),
    threads: 1
    conda:
        "../envs/whysgd.yaml"
    script:
        "../workflow_scripts/plot_steps.py"


rule plot_sheet:
    input:
        unpack(dataset_files),
        store="results/stores/{dataset}/{store}.lmdb",
    output:
        svg=report(
            "results/{scale}/figures/{dataset}_{store}_sheet.svg",
            category="Data",
            caption="../docs/captions/sheet.rst",
        ),
        png="results/{scale}/figures/{dataset}_{store}_sheet.png",
    log:
        "results/{scale}/logs/plot_sheet/{dataset}_{store}.log",
    params:
        code=code_digest("workflow_scripts/plot_sheet.py"),
    threads: 1
    conda:
        "../envs/whysgd.yaml"
    script:
        "../workflow_scripts/plot_sheet.py"
