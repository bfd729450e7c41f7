# What is measured of every batch of finished runs, and the loss landscapes of some.


# `measures` is the name of one measure or, where a scale lets them share a job, "all".
rule measure:
    input:
        unpack(lambda wildcards: STUDY.measuring_inputs(wildcards.paper, wildcards.run, wildcards.seeds)),
    output:
        paths.MEASURES,
    log:
        "results/{scale}/logs/measure/{paper}/{run}/{seeds}/{measures}.log",
    params:
        measures=lambda wildcards: STUDY.measures_of_job(wildcards.measures),
        options=lambda wildcards: STUDY.measuring_options(wildcards.measures),
        code=lambda wildcards: measuring_code(
            STUDY.spec(wildcards.paper, wildcards.run), *STUDY.measures_of_job(wildcards.measures)
        ),
    threads: CONFIG["threads"]
    resources:
        runtime=lambda wildcards, attempt: STUDY.minutes(
            STUDY.measuring_cost(wildcards.paper, wildcards.run, wildcards.seeds, wildcards.measures), attempt
        ),
        mem_mb=lambda wildcards, attempt: STUDY.megabytes(
            STUDY.measuring_cost(wildcards.paper, wildcards.run, wildcards.seeds, wildcards.measures), attempt
        ),
        gpu=GPU,
        # A change of resources reruns nothing, unlike one of params: so options that decide no result stand here.
        device=CONFIG["device"],
    conda:
        "../envs/whysgd.yaml"
    # An edited shell line reruns nothing by itself: add `--forcerun measure`.
    shell:
        "python -m whysgd measure {params.measures} --run $(dirname {input.metrics:q})"
        " --data $(dirname {input.manifest:q}) --out {output:q} --options {params.options:q}"
        " --device {resources.device} --threads {threads} > {log:q} 2>&1"


# A part of the points of the loss landscapes of a batch; parts run side by side, and those that are there stay.
rule measure_landscape:
    input:
        unpack(lambda wildcards: STUDY.measuring_inputs(wildcards.paper, wildcards.run, wildcards.seeds)),
    output:
        points=paths.LANDSCAPE,
    log:
        "results/{scale}/logs/measure_landscape/{paper}/{run}/{seeds}/{kind}_{chunk}-of-{chunks}.log",
    params:
        options=lambda wildcards: STUDY.landscape_options(wildcards.paper, wildcards.run, wildcards.kind),
        code=lambda wildcards: landscape_code(STUDY.spec(wildcards.paper, wildcards.run)),
    threads: CONFIG["threads"]
    resources:
        runtime=lambda wildcards, attempt: STUDY.minutes(
            STUDY.landscape_cost(wildcards.paper, wildcards.run, wildcards.seeds, wildcards.kind), attempt
        ),
        mem_mb=lambda wildcards, attempt: STUDY.megabytes(
            STUDY.landscape_cost(wildcards.paper, wildcards.run, wildcards.seeds, wildcards.kind), attempt
        ),
        gpu=GPU,
        device=CONFIG["device"],
    conda:
        "../envs/whysgd.yaml"
    shell:
        "python -m whysgd landscape {wildcards.kind} --run $(dirname {input.metrics:q})"
        " {params.options} --data $(dirname {input.manifest:q}) --chunk {wildcards.chunk} --of {wildcards.chunks}"
        " --out {output.points:q} --device {resources.device} --threads {threads} > {log:q} 2>&1"
