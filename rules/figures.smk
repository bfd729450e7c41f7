# One figure for each table and kind, and some that belong to no table.


# A kind of figure, `figure`, is a file of whysgd/report/figures/, where its size is.
rule plot_figure:
    input:
        unpack(lambda w: STUDY.figure_inputs(w.paper, w.table, w.figure)),
        runs=paths.RUNS,
    output:
        svg=report(
            f"{paths.FIGURE}.svg",
            category="{paper}",
            subcategory="Figures",
            caption="../docs/captions/given.rst",
            labels=figure_labels,
        ),
        png=f"{paths.FIGURE}.png",
    log:
        "results/{scale}/logs/plot_figure/{paper}_{table}_{figure}.log",
    wildcard_constraints:
        figure="|".join(map(re.escape, STUDY.figure_names)),
    params:
        table=lambda w: STUDY.table(w.paper, w.table),
        colours=lambda w: STUDY.colours(w.paper, w.table),
        caption=lambda w: caption(w.figure),
        code=lambda w: code_digest("workflow_scripts/plot_figure.py", using=(("figure", w.figure),)),
    conda:
        "../envs/whysgd.yaml"
    script:
        "../workflow_scripts/plot_figure.py"


rule plot_augmentation:
    input:
        unpack(lambda w: STUDY.dataset_files(w.dataset)),
        store=paths.STORE,
    output:
        svg=report(
            f"{paths.GRID_OF_COPIES}.svg",
            category="Data",
            caption="../docs/captions/augmentation.rst",
            labels={"data set": "{dataset}", "figure": "stored copies ({store})"},
        ),
        png=f"{paths.GRID_OF_COPIES}.png",
    log:
        "results/{scale}/logs/plot_augmentation/{dataset}_{store}.log",
    params:
        code=code_digest("workflow_scripts/plot_augmentation.py"),
    conda:
        "../envs/whysgd.yaml"
    script:
        "../workflow_scripts/plot_augmentation.py"


rule plot_trajectories:
    output:
        csv=f"{paths.TRAJECTORIES}.csv",
        svg=report(
            f"{paths.TRAJECTORIES}.svg",
            category="{paper}",
            subcategory="Figures",
            caption="../docs/captions/trajectories.rst",
            labels={"table": "Descent on a loss with two weights", "figure": "paths"},
        ),
        png=f"{paths.TRAJECTORIES}.png",
    log:
        "results/{scale}/logs/plot_trajectories/{paper}.log",
    params:
        settings=lambda w: STUDY.trajectories(w.paper),
        code=code_digest("workflow_scripts/plot_trajectories.py"),
    conda:
        "../envs/whysgd.yaml"
    script:
        "../workflow_scripts/plot_trajectories.py"
