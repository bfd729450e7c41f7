# One job for each run: a row of a table and a seed; or for all seeds of a run.


asked = training_resources()

for job in train_jobs():

    rule:
        name:
            job["name"]
        input:
            unpack(job["reads"]),
        output:
            **job["writes"],
        log:
            f"results/{{scale}}/logs/train/{job['place']}.log",
        benchmark:
            f"results/{{scale}}/benchmarks/train/{job['place']}.tsv"
        wildcard_constraints:
            run=job["runs"],
        params:
            spec=specs_json,
            inputs=input_arguments,
            code=code_digest("whysgd.training.loop", "whysgd.training.device"),
        threads: CONFIG["threads"]
        resources:
            # None of these decides a result, so none of them is a reason to train again.
            **asked,
            device=CONFIG["device"],
            # For `--resources gpu=N` and for schedulers; with neither it limits nothing.
            gpu=GPU,
            slurm_partition=partition(),
            engine=CONFIG["engine"],
            images_on=CONFIG["images_on"],
            checkpoint_seconds=str(CONFIG["checkpoint_seconds"]),  # a number would be cut to a whole one
            tensorboard="on" if CONFIG["tensorboard"] else "off",
            # Of a Snakemake that was killed the jobs of a cluster go on, and may still train what is started again.
            wait_seconds=longest_wait,
        conda:
            "../envs/whysgd.yaml"
        shell:
            "exec python -m whysgd train --spec {params.spec:q} --data $(dirname {input.manifest:q}) {params.inputs}"
            " --out $(dirname {output.metrics:q}) --device {resources.device} --threads {threads}"
            " --engine {resources.engine} --images-on {resources.images_on}"
            " --checkpoint-seconds {resources.checkpoint_seconds} --tensorboard {resources.tensorboard}"
            " --wait-seconds {resources.wait_seconds} > {log:q} 2>&1"
