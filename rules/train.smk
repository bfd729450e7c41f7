# One job for each run, that is a row of a table, and batch of seeds.


rule train:
    input:
        unpack(lambda w: STUDY.training_inputs(w.paper, w.run, w.seeds)),
    output:
        metrics=f"{paths.RUN}/metrics.json",
        history=f"{paths.RUN}/history.csv",
        norms=f"{paths.RUN}/gradient_norms.csv",
        model=f"{paths.RUN}/model.safetensors",
        best=f"{paths.RUN}/best.safetensors",
        noise=f"{paths.RUN}/noise.csv",
        layers=f"{paths.RUN}/layers.csv",
        noise_norms=f"{paths.RUN}/noise_norms.csv",
    log:
        "results/{scale}/logs/train/{paper}/{run}/{seeds}.log",
    benchmark:
        "results/{scale}/benchmarks/train/{paper}/{run}/{seeds}.tsv"
    params:
        spec=lambda w: STUDY.spec_json(w.paper, w.run),
        seeds=lambda w: paths.batch_seeds(w.seeds),
        options=training_options,
        code=lambda w: training_code(STUDY.spec(w.paper, w.run)),
    # The longest first, so that no core waits for one of them at the end. All are below 0, so what is trained is measured
    # first; they are close to 0, because the scheduler `ilp` leaves a core idle rather than start a job far below it.
    priority: lambda w: -1e-6 / (1 + STUDY.training_cost(w.paper, w.run, w.seeds).seconds)
    threads: CONFIG["threads"]
    resources:
        runtime=lambda w, attempt: STUDY.minutes(STUDY.training_cost(w.paper, w.run, w.seeds), attempt),
        mem_mb=lambda w, attempt: STUDY.megabytes(STUDY.training_cost(w.paper, w.run, w.seeds), attempt),
        gpu=GPU,
        # A change of resources reruns nothing, unlike one of params: so options that decide no result stand here.
        device=CONFIG["device"],
        engine=CONFIG["engine"],
        images_on=CONFIG["images_on"],
        checkpoint_seconds=str(CONFIG["checkpoint_seconds"]),  # a number would be cut to a whole one
        tensorboard="on" if CONFIG["tensorboard"] else "off",
        # On a cluster the jobs of a Snakemake that was killed go on, and may still train what is started again.
        wait_seconds=0 if workflow.local_exec and not workflow.remote_exec else 24 * 3600,
    conda:
        "../envs/whysgd.yaml"
    # An edited shell line reruns nothing by itself: add `--forcerun train`.
    shell:
        "exec python -m whysgd train --spec {params.spec:q} --seed {params.seeds} {params.options}"
        " --data $(dirname {input.manifest:q}) --out $(dirname {output.metrics:q})"
        " --device {resources.device} --threads {threads} --engine {resources.engine} --images-on {resources.images_on}"
        " --checkpoint-seconds {resources.checkpoint_seconds} --tensorboard {resources.tensorboard}"
        " --wait-seconds {resources.wait_seconds} > {log:q} 2>&1"
