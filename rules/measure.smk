# What is measured of every finished run: one JSON file for each measure.


for job in measure_jobs():

    rule:
        name:
            job["name"]
        input:
            unpack(measured_run),
        output:
            **job["writes"],
        log:
            f"results/{{scale}}/logs/{job['name']}/{job['place']}.log",
        wildcard_constraints:
            run=job["runs"],
        params:
            measures=job["measures"],
            folders=measure_folders,
            options=json.dumps({name: MEASURING[name] for name in job["measures"] if name in MEASURING}),
            code=code_digest("whysgd.measures.run", *(f"whysgd.measures.{name}" for name in job["measures"])),
        threads: CONFIG["threads"]
        resources:
            **measuring_resources(job["measures"]),
            device=CONFIG["device"],
            gpu=GPU,
            slurm_partition=partition(),
        conda:
            "../envs/whysgd.yaml"
        shell:
            "python -m whysgd measure {params.measures} --run $(dirname {input.metrics:q})"
            " --data $(dirname {input.manifest:q}) --out {params.folders:q} --options {params.options:q}"
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
        **landscape_resources(),
        device=CONFIG["device"],
        gpu=GPU,
        slurm_partition=partition(),
    conda:
        "../envs/whysgd.yaml"
    shell:
        "python -m whysgd landscape {wildcards.kind} --run $(dirname {input.metrics:q}) {params.options}"
        " --data $(dirname {input.manifest:q}) --chunk {wildcards.chunk} --of {wildcards.chunks}"
        " --out {output.points:q} --device {resources.device} --threads {threads} > {log:q} 2>&1"
