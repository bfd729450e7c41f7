# One job for each run: a row of a table and a seed.


rule train:
    input:
        unpack(data_of),
    output:
        metrics="results/{scale}/runs/{paper}/{run}/seed-{seed}/metrics.json",
        history="results/{scale}/runs/{paper}/{run}/seed-{seed}/history.csv",
        norms="results/{scale}/runs/{paper}/{run}/seed-{seed}/gradient_norms.csv",
        model="results/{scale}/runs/{paper}/{run}/seed-{seed}/model.safetensors",
    log:
        "results/{scale}/logs/train/{paper}/{run}/seed-{seed}.log",
    benchmark:
        "results/{scale}/benchmarks/train/{paper}/{run}/seed-{seed}.tsv"
    wildcard_constraints:
        run=all_but(GRAFTED),
    params:
        spec=lambda wildcards: json.dumps(spec_of(wildcards).to_dict()),
        inputs=input_arguments,
        code=code_digest("whysgd.training.loop", "whysgd.training.device"),
    threads: CONFIG["threads"]
    resources:
        # None of these decides a result, so none of them is a reason to train again.
        device=CONFIG["device"],
        # For `--resources gpu=N` and for schedulers; with neither it limits nothing.
        gpu=int(CONFIG["device"] != "cpu"),
        engine=CONFIG["engine"],
        images_on=CONFIG["images_on"],
        checkpoint_seconds=CONFIG["checkpoint_seconds"],
    conda:
        "../envs/whysgd.yaml"
    shell:
        "python -m whysgd train --spec {params.spec:q} --data $(dirname {input.manifest:q}) {params.inputs}"
        " --out $(dirname {output.metrics:q}) --device {resources.device} --threads {threads}"
        " --engine {resources.engine} --images-on {resources.images_on}"
        " --checkpoint-seconds {resources.checkpoint_seconds} > {log:q} 2>&1"


if GRAFTED:

    # The same job, which waits for the log of another run of the same seed.
    use rule train as train_grafted with:
        input:
            unpack(grafted_from),
        wildcard_constraints:
            run=any_of(GRAFTED),
