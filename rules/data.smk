# Data sets in their canonical form.


rule build_dataset:
    input:
        class_folders,
    output:
        manifest="results/data/{dataset}/manifest.json",
        train="results/data/{dataset}/train.safetensors",
        test="results/data/{dataset}/test.safetensors",
    log:
        "results/data/{dataset}/build_dataset.log",
    params:
        datasets=own_dataset,
        code=code_digest("whysgd.data.build"),
    threads: 1
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
        unpack(dataset_files),
    output:
        store="results/stores/{dataset}/{store}.lmdb",
        description="results/stores/{dataset}/{store}.json",
    log:
        "results/stores/{dataset}/{store}.log",
    params:
        options=store_options,
        code=code_digest("whysgd.data.build_store"),
    threads: 1
    resources:
        runtime=60,
    conda:
        "../envs/whysgd.yaml"
    shell:
        "python -m whysgd build-store {wildcards.dataset:q} {params.options}"
        " --data $(dirname {input.manifest:q}) --out {output.store:q} > {log:q} 2>&1"
