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
            labels=figure_labels("curves"),
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
            labels=figure_labels("comparison"),
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
            caption="../docs/captions/given.rst",
            labels=figure_labels(),
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
            labels={"data set": "{dataset}", "figure": "stored copies ({store})"},
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


rule plot_landscape:
    input:
        runs="results/{scale}/frames/{paper}_runs.csv",
        points=landscape_points,
    output:
        svg=report(
            "results/{scale}/figures/{paper}_{table}_{view}.svg",
            category="{paper}",
            subcategory="Figures",
            caption="../docs/captions/given.rst",
            labels=figure_labels(),
        ),
        png="results/{scale}/figures/{paper}_{table}_{view}.png",
    log:
        "results/{scale}/logs/plot_landscape/{paper}_{table}_{view}.log",
    wildcard_constraints:
        view="|".join(LANDSCAPES),
    params:
        table=table_of,
        caption=lambda wildcards: CAPTIONS[wildcards.view],
        code=code_digest("workflow_scripts/plot_landscape.py"),
    threads: 1
    conda:
        "../envs/whysgd.yaml"
    script:
        "../workflow_scripts/plot_landscape.py"


rule plot_trajectories:
    output:
        csv="results/{scale}/{paper}/trajectories.csv",
        svg=report(
            "results/{scale}/figures/{paper}_gd-2d.svg",
            category="{paper}",
            subcategory="Figures",
            caption="../docs/captions/trajectories.rst",
            labels=picture_labels("paths"),
        ),
        png="results/{scale}/figures/{paper}_gd-2d.png",
        gif=report(
            "results/{scale}/figures/{paper}_gd-2d.gif",
            category="{paper}",
            subcategory="Figures",
            caption="../docs/captions/animation.rst",
            labels=picture_labels("animation (to download)"),
        ),
    log:
        "results/{scale}/logs/plot_trajectories/{paper}.log",
    params:
        settings=trajectories_of,
        code=code_digest("workflow_scripts/plot_trajectories.py"),
    threads: 1
    conda:
        "../envs/whysgd.yaml"
    script:
        "../workflow_scripts/plot_trajectories.py"


rule plot_histograms:
    input:
        runs="results/{scale}/frames/{paper}_runs.csv",
        measures="results/{scale}/frames/{paper}_measures.csv",
    output:
        svg=report(
            "results/{scale}/figures/{paper}_{table}_histograms.svg",
            category="{paper}",
            subcategory="Figures",
            caption="../docs/captions/histograms.rst",
            labels=figure_labels("histograms"),
        ),
        png="results/{scale}/figures/{paper}_{table}_histograms.png",
    log:
        "results/{scale}/logs/plot_histograms/{paper}_{table}.log",
    params:
        table=table_of,
        code=code_digest("workflow_scripts/plot_histograms.py"),
    threads: 1
    conda:
        "../envs/whysgd.yaml"
    script:
        "../workflow_scripts/plot_histograms.py"


rule plot_grid:
    input:
        runs="results/{scale}/frames/{paper}_runs.csv",
        measures="results/{scale}/frames/{paper}_measures.csv",
    output:
        svg=report(
            "results/{scale}/figures/{paper}_{table}_{view}.svg",
            category="{paper}",
            subcategory="Figures",
            caption="../docs/captions/given.rst",
            labels=figure_labels(),
        ),
        png="results/{scale}/figures/{paper}_{table}_{view}.png",
    log:
        "results/{scale}/logs/plot_grid/{paper}_{table}_{view}.log",
    wildcard_constraints:
        view="|".join(GRID_FIGURES),
    params:
        table=table_of,
        caption=lambda wildcards: CAPTIONS[wildcards.view],
        code=code_digest("workflow_scripts/plot_grid.py"),
    threads: 1
    conda:
        "../envs/whysgd.yaml"
    script:
        "../workflow_scripts/plot_grid.py"


rule plot_noise:
    input:
        unpack(noise_logs),
        runs="results/{scale}/frames/{paper}_runs.csv",
        histories="results/{scale}/frames/{paper}_histories.csv",
    output:
        svg=report(
            "results/{scale}/figures/{paper}_{table}_{view}.svg",
            category="{paper}",
            subcategory="Figures",
            caption="../docs/captions/given.rst",
            labels=figure_labels(),
        ),
        png="results/{scale}/figures/{paper}_{table}_{view}.png",
    log:
        "results/{scale}/logs/plot_noise/{paper}_{table}_{view}.log",
    wildcard_constraints:
        view="|".join(NOISE_FIGURES),
    params:
        table=table_of,
        caption=lambda wildcards: CAPTIONS[wildcards.view],
        code=code_digest("workflow_scripts/plot_noise.py"),
    threads: 1
    conda:
        "../envs/whysgd.yaml"
    script:
        "../workflow_scripts/plot_noise.py"


rule plot_correlations:
    input:
        wide="results/{scale}/measures/runs.csv",
        runs=[f"results/{SCALE}/frames/{paper}_runs.csv" for paper in CONFIG["papers"]],
    output:
        csv="results/{scale}/measures/correlations.csv",
        svg=report(
            "results/{scale}/figures/measures_correlations.svg",
            category="Every run, every ruler",
            caption="../docs/captions/correlations.rst",
            labels={"shows": "Rank correlations with generalization"},
        ),
        png="results/{scale}/figures/measures_correlations.png",
    log:
        "results/{scale}/logs/plot_correlations.log",
    params:
        code=code_digest("workflow_scripts/plot_correlations.py"),
    threads: 1
    conda:
        "../envs/whysgd.yaml"
    script:
        "../workflow_scripts/plot_correlations.py"
