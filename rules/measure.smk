# What is measured of every finished run: one JSON file for each measure.


for name, measures in MEASURE_JOBS.items():

    rule:
        name:
            name
        input:
            unpack(measured_run),
        output:
            **{measure: f"{MEASURE_FOLDER}/{measure}.json" for measure in measures},
        log:
            f"results/{{scale}}/logs/{name}/{{paper}}/{{run}}/seed-{{seed}}.log",
        params:
            measures=measures,
            folder=MEASURE_FOLDER,
            options=json.dumps({measure: MEASURING[measure] for measure in measures if measure in MEASURING}),
            code=code_digest("whysgd.measures.run", *(f"whysgd.measures.{measure}" for measure in measures)),
        threads: CONFIG["threads"]
        resources:
            device=CONFIG["device"],
            gpu=int(CONFIG["device"] != "cpu"),
        conda:
            "../envs/whysgd.yaml"
        shell:
            "python -m whysgd measure {params.measures} --run $(dirname {input.metrics:q})"
            " --data $(dirname {input.manifest:q}) --out {params.folder:q} --options {params.options:q}"
            " --device {resources.device} --threads {threads} > {log:q} 2>&1"


# A part of the points of a loss landscape; parts run side by side, and those that are there stay.
rule measure_landscape:
    input:
        unpack(landscape_run),
    output:
        points="results/{scale}/landscapes/{paper}/{run}/seed-{seed}/{kind}_{chunk}-of-{chunks}.csv",
    log:
        "results/{scale}/logs/measure_landscape/{paper}/{run}/seed-{seed}/{kind}_{chunk}-of-{chunks}.log",
    wildcard_constraints:
        kind="line|plane",
        chunk=r"\d+",
        chunks=r"\d+",
    params:
        options=landscape_options,
        code=code_digest("whysgd.measures.landscape_part"),
    threads: CONFIG["threads"]
    resources:
        device=CONFIG["device"],
        gpu=int(CONFIG["device"] != "cpu"),
    conda:
        "../envs/whysgd.yaml"
    shell:
        "python -m whysgd landscape {wildcards.kind} --run $(dirname {input.metrics:q}) {params.options}"
        " --data $(dirname {input.manifest:q}) --chunk {wildcards.chunk} --of {wildcards.chunks}"
        " --out {output.points:q} --device {resources.device} --threads {threads} > {log:q} 2>&1"
