# Data sets in their canonical form, and augmented copies of them.


rule build_dataset:
    input:
        lambda w: STUDY.class_folders(w.dataset),
    output:
        manifest=f"{paths.DATASET}/manifest.json",
        train=f"{paths.DATASET}/train.safetensors",
        test=f"{paths.DATASET}/test.safetensors",
    log:
        f"{paths.DATASET}/build_dataset.log",
    params:
        datasets=lambda w: json.dumps({k: v for k, v in CONFIG["datasets"].items() if k == w.dataset}),
        files=lambda w: STUDY.class_files(w.dataset),
        code=code_digest("whysgd.data.build"),
    resources:
        runtime=60,
        data_dir=CONFIG["data_dir"],
    conda:
        "../envs/whysgd.yaml"
    shell:
        "python -m whysgd build-dataset {wildcards.dataset:q} --datasets {params.datasets:q}"
        " --data-dir={resources.data_dir:q} --out $(dirname {output.manifest:q}) > {log:q} 2>&1"


rule build_store:
    input:
        unpack(lambda w: STUDY.dataset_files(w.dataset)),
    output:
        store=paths.STORE,
        description=paths.STORE.replace(".lmdb", ".json"),
    log:
        paths.STORE.replace(".lmdb", ".log"),
    params:
        options=lambda w: STUDY.store_options(w.dataset, w.store),
        code=code_digest("whysgd.data.build_store"),
    resources:
        runtime=60,
    conda:
        "../envs/whysgd.yaml"
    shell:
        "python -m whysgd build-store {wildcards.dataset:q} {params.options}"
        " --data $(dirname {input.manifest:q}) --out {output.store:q} > {log:q} 2>&1"
