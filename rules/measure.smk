# What is measured of every batch of finished runs, and the loss landscapes of some.


# `measures` is the name of one measure or, where a scale lets them share a job, "all".
rule measure:
    input:
        unpack(lambda w: STUDY.measuring_inputs(w.paper, w.run, w.seeds)),
    output:
        paths.MEASURES,
    log:
        "results/{scale}/logs/measure/{paper}/{run}/{seeds}/{measures}.log",
    params:
        measures=lambda w: STUDY.measures_of_job(w.measures),
        options=lambda w: STUDY.measuring_options(w.measures),
        code=lambda w: measuring_code(STUDY.spec(w.paper, w.run), *STUDY.measures_of_job(w.measures)),
    threads: CONFIG["threads"]
    resources:
        runtime=lambda w, attempt: STUDY.minutes(STUDY.measuring_cost(w.paper, w.run, w.seeds, w.measures), attempt),
        mem_mb=lambda w, attempt: STUDY.megabytes(STUDY.measuring_cost(w.paper, w.run, w.seeds, w.measures), attempt),
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
        unpack(lambda w: STUDY.measuring_inputs(w.paper, w.run, w.seeds)),
    output:
        points=paths.LANDSCAPE,
    log:
        "results/{scale}/logs/measure_landscape/{paper}/{run}/{seeds}/{kind}_{chunk}-of-{chunks}.log",
    params:
        options=lambda w: STUDY.landscape_options(w.paper, w.run, w.kind),
        code=lambda w: landscape_code(STUDY.spec(w.paper, w.run)),
    threads: CONFIG["threads"]
    resources:
        runtime=lambda w, attempt: STUDY.minutes(STUDY.landscape_cost(w.paper, w.run, w.seeds, w.kind), attempt),
        mem_mb=lambda w, attempt: STUDY.megabytes(STUDY.landscape_cost(w.paper, w.run, w.seeds, w.kind), attempt),
        gpu=GPU,
        device=CONFIG["device"],
    conda:
        "../envs/whysgd.yaml"
    shell:
        "python -m whysgd landscape {wildcards.kind} --run $(dirname {input.metrics:q})"
        " {params.options} --data $(dirname {input.manifest:q}) --chunk {wildcards.chunk} --of {wildcards.chunks}"
        " --out {output.points:q} --device {resources.device} --threads {threads} > {log:q} 2>&1"
