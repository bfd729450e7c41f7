# What is measured of every batch of finished runs, and the loss landscapes of some.


# `measures` is the name of one measure or, where a scale lets them share a job, "all".
rule measure:
    input:
        unpack(measuring_inputs),
    output:
        paths.MEASURES,
    log:
        "results/{scale}/logs/measure/{paper}/{run}/{seeds}/{measures}.log",
    params:
        measures=measures_of_job,
        options=lambda wildcards: json.dumps(measuring_options(wildcards)),
        code=measuring_code_of,
    threads: CONFIG["threads"]
    resources:
        runtime=lambda wildcards, attempt: STUDY.minutes(measuring_cost(wildcards), attempt),
        mem_mb=lambda wildcards, attempt: STUDY.megabytes(measuring_cost(wildcards), attempt),
        gpu=GPU,
        device=CONFIG["device"],
    conda:
        "../envs/whysgd.yaml"
    shell:
        "python -m whysgd measure {params.measures} --run $(dirname {input.metrics:q})"
        " --data $(dirname {input.manifest:q}) --out {output:q} --options {params.options:q}"
        " --device {resources.device} --threads {threads} > {log:q} 2>&1"


# A part of the points of a loss landscape; parts run side by side, and those that are there stay.
rule measure_landscape:
    input:
        unpack(landscape_inputs),
    output:
        points=paths.LANDSCAPE,
    log:
        "results/{scale}/logs/measure_landscape/{paper}/{run}/seed-{seed}/{kind}_{chunk}-of-{chunks}.log",
    params:
        options=landscape_options,
        code=landscape_code_of,
    threads: CONFIG["threads"]
    resources:
        runtime=lambda wildcards, attempt: STUDY.minutes(landscape_cost(wildcards), attempt),
        mem_mb=lambda wildcards, attempt: STUDY.megabytes(landscape_cost(wildcards), attempt),
        gpu=GPU,
        device=CONFIG["device"],
    conda:
        "../envs/whysgd.yaml"
    shell:
        "python -m whysgd landscape {wildcards.kind} --run $(dirname {input.metrics:q}) --seed {wildcards.seed}"
        " {params.options} --data $(dirname {input.manifest:q}) --chunk {wildcards.chunk} --of {wildcards.chunks}"
        " --out {output.points:q} --device {resources.device} --threads {threads} > {log:q} 2>&1"
