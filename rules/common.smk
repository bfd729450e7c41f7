# Functions of the workflow; they live here, and in jobs.smk, resources.smk, recorded.smk and contents.smk, only. All of
# them are pure: names in, paths or values out.
import json
import re
import sys
from pathlib import Path

from whysgd.study.checks import needed_measures
from whysgd.study.codedigest import code_digest
from whysgd.study.config import DEFAULT_FILE, retyped, validate_config
from whysgd.errors import UserError
from whysgd.study.jobs import seeds_share_a_job, store_arguments
from whysgd.study.jobs import class_folders as folders_of_classes
from whysgd.study.layout import GRID_FIGURES, NOISE_FIGURES, NOISE_LOGS
from whysgd.measures.catalog import LANDSCAPES
from whysgd.files import sha256_of
from whysgd.study.papers import claims_at, expand, load_paper, tables_at
from whysgd.study.plan import drawn_runs as runs_drawn
from whysgd.results.recorded import SAME_RESULTS, with_records
from whysgd.results.records import ROOT
from whysgd.report.colours import method_colours

DATA_FILES = {"manifest": "manifest.json", "train": "train.safetensors", "test": "test.safetensors"}
# Figures of each table, with the text under them.
CAPTIONS = {
    kind: Path(workflow.basedir, "docs/captions", f"{kind}.rst").read_text(encoding="utf-8").strip()
    for kind in (
        "comparison",
        "curves",
        "accuracy",
        "micro_norm",
        "sheet",
        "landscape",
        "contours",
        "surface",
        "histograms",
        "correlations",
        "measures",
        "width",
        "heatmap",
        "noise_course",
        "noise_norms",
        "layer_norms",
        "trajectories",
        "animation",
    )
}

for key in workflow.config_settings.config:
    config[key] = retyped(config[key])
try:
    CONFIG = validate_config(config, [DEFAULT_FILE, *workflow.overwrite_configfiles])
    RECORDED = CONFIG["from"] == "records"
    CONFIG = with_records(CONFIG, Path(workflow.basedir, ROOT)) if RECORDED else CONFIG
    RUNS = expand(CONFIG)
except UserError as error:
    sys.exit(f"error: {error}")

# Of `--sdm apptainer`; without that option it does nothing.
if CONFIG["container"]:

    container: CONFIG["container"]


# Where results lie, under results/: those of training and those from records never mix.
SCALE = f"recorded/{CONFIG['scale']}" if RECORDED else CONFIG["scale"]
MEASURING = CONFIG["scales"][CONFIG["scale"]]["measuring"]
for line in CONFIG["left_out"] if RECORDED else ():
    print(line, file=sys.stderr)
RUN_FOLDER = "results/{scale}/runs/{paper}/{run}/seed-{seed}"
MEASURE_FOLDER = "results/{scale}/measures/{paper}/{run}/seed-{seed}"
# Names of the runs that graft the gradient norms of another run, which must be finished before.
GRAFTED = {spec.run for spec in RUNS.values() if spec.transform and spec.transform.reference}
# The specifications of a run, one for each seed.
ALL_SEEDS = {}
for spec in RUNS.values():
    ALL_SEEDS.setdefault((spec.paper, spec.run), []).append(spec)
# Runs all seeds of which are trained, and measured, in one job: where the paper wants it and they move in lockstep.
TOGETHER = {run for (_, run), specs in ALL_SEEDS.items() if seeds_share_a_job(specs[0])}
# What a run leaves in its folder.
RESULT_FILES = {
    "metrics": "metrics.json",
    "history": "history.csv",
    "norms": "gradient_norms.csv",
    "model": "model.safetensors",
}
# What a run that measures its gradient noise leaves beside the other results, and which runs do.
NOISE_FILES = {"noise": "noise.csv", "layers": "layers.csv", "noise_norms": "noise_norms.csv"}
NOISY = {spec.run for spec in RUNS.values() if spec.noise and spec.run not in TOGETHER}
for name in sorted(TOGETHER | NOISY):
    if len(found := [paper for paper, run in ALL_SEEDS if run == name]) > 1:
        sys.exit(f"error: {', '.join(found)}: runs.{name}: a run with noise or seeds_together needs a name of its own")
# The stored copies that the runs train on, by data set and name.
STORES = {(spec.dataset, spec.store.name): spec.store for spec in RUNS.values() if spec.store}


def spec_of(wildcards):
    """The specification of a run that is asked for by its path."""
    key = (wildcards.paper, wildcards.run, int(wildcards.seed))
    if key not in RUNS:
        raise WorkflowError(f"no run {'/'.join(map(str, key))} in the configured papers and seeds")
    return RUNS[key]


def specs_of(wildcards):
    """The specifications of a run that is asked for by its path: of the path's seed or, if it has none, of all."""
    if hasattr(wildcards, "seed"):
        return [spec_of(wildcards)]
    key = (wildcards.paper, wildcards.run)
    if key not in ALL_SEEDS:
        raise WorkflowError(f"no run {'/'.join(key)} in the configured papers")
    return ALL_SEEDS[key]


def specs_json(wildcards):
    """A run's specification as JSON, or the list of those of all seeds."""
    specs = [spec.to_dict() for spec in specs_of(wildcards)]
    return json.dumps(specs[0] if hasattr(wildcards, "seed") else specs)


def canonical_files(dataset):
    """The canonical form of a data set."""
    return {name: f"results/data/{dataset}/{file}" for name, file in DATA_FILES.items()}


def dataset_files(wildcards):
    """The canonical form of the data set that a path names."""
    return canonical_files(wildcards.dataset)


def data_of(wildcards):
    """What a run reads: its data set and, if it has, its stored copies."""
    spec = specs_of(wildcards)[0]
    store = {"store": f"results/stores/{spec.dataset}/{spec.store.name}.lmdb"} if spec.store else {}
    return {**canonical_files(spec.dataset), **store}


def grafted_from(wildcards):
    """What a run reads that grafts another one's gradient norms: that run's log, beside the data."""
    spec = specs_of(wildcards)[0]
    if spec.transform is None or spec.transform.reference is None:  # Another paper's run of the same name.
        return data_of(wildcards)
    reference = f"results/{spec.scale}/runs/{spec.paper}/{spec.transform.reference}/seed-{spec.seed}"
    return {**data_of(wildcards), "reference": f"{reference}/gradient_norms.csv"}


def tabulated_from(wildcards):
    """What a table needs: the frame of its paper's runs, and what was measured of them if it shows any of that."""
    frames = f"results/{SCALE}/frames/{wildcards.paper}"
    needed = needed_measures(row["metric"] for row in table_of(wildcards)["rows"]) & set(CONFIG["measures"])
    return {"runs": f"{frames}_runs.csv", **({"measures": f"{frames}_measures.csv"} if needed else {})}


def judged_from(wildcards):
    """What the verdicts on a paper's claims need: its frames, and what was measured if a claim is about that."""
    frames = {name: f"results/{SCALE}/frames/{wildcards.paper}_{name}.csv" for name in ("runs", "histories")}
    needed = needed_measures(claim["metric"] for claim in claims_at(CONFIG, wildcards.paper)) & set(CONFIG["measures"])
    return {**frames, **({"measures": f"results/{SCALE}/frames/{wildcards.paper}_measures.csv"} if needed else {})}


def any_of(runs):
    """A pattern for these names; without any, one that matches nothing."""
    return "|".join(re.escape(run) for run in sorted(runs)) or "(?!)"


def all_but(runs):
    """A pattern for the names of all other runs."""
    return f"(?!({any_of(runs)})/)[A-Za-z0-9_.-]+" if runs else "[A-Za-z0-9_.-]+"


def store_options(wildcards):
    """How stored copies that are asked for by their path are made."""
    key = (wildcards.dataset, wildcards.store)
    if key not in STORES:
        raise WorkflowError(f"no run of the configured papers trains on the stored copies {'/'.join(key)}")
    return " ".join(store_arguments(STORES[key]))


def input_arguments(wildcards, input):
    """The options of a training job that name its stored copies, or the log that it grafts from."""
    options = {"store": "--store", "reference": "--norms"}
    return " ".join(f"{flag} {input[name]}" for name, flag in options.items() if hasattr(input, name))


def own_dataset(wildcards):
    """The configuration's entry for this data set alone, as JSON; empty for a built-in one."""
    own = {name: entry for name, entry in CONFIG["datasets"].items() if name == wildcards.dataset}
    return json.dumps(own)


def class_folders(wildcards):
    """The class folders of an image folder: adding or removing an image makes them newer."""
    folders = [str(folder) for folder in folders_of_classes(CONFIG["datasets"].get(wildcards.dataset))]
    if braced := [folder for folder in folders if "{" in folder or "}" in folder]:
        raise WorkflowError(f"{braced[0]}: must have no braces in its name: to Snakemake they are wildcards")
    return folders


def run_files(*specs):
    """What measuring reads of a run, or of all its seeds: records and weights, and the data set."""
    own = {
        "metrics": [f"{spec.folder}/metrics.json" for spec in specs],
        "model": [f"{spec.folder}/model.safetensors" for spec in specs],
    }
    return {**canonical_files(specs[0].dataset), **own}


def measured_run(wildcards):
    """What a measure of a run, or of all its seeds, reads."""
    return run_files(*specs_of(wildcards))


def measure_folders(wildcards):
    """Where the measures of a run, or of all its seeds, lie."""
    return [MEASURE_FOLDER.format(**spec.to_dict()) for spec in specs_of(wildcards)]


def measures_of(wildcards):
    """The measures of every run of a paper."""
    return [
        f"{MEASURE_FOLDER.format(**vars(spec))}/{measure}.json"
        for spec in RUNS.values()
        if spec.paper == wildcards.paper
        for measure in CONFIG["measures"]
    ]


def drawn_runs(paper, table, kind):
    """The runs of a table whose landscapes of a kind are drawn, in order, at their first seed."""
    return runs_drawn(RUNS.values(), paper, tables_at(CONFIG, paper)[table], kind)


def landscape_points(wildcards):
    """All parts of the landscapes that a figure of a table shows."""
    kind = LANDSCAPES[wildcards.view]
    if RECORDED:
        return [record_of(spec) for spec in drawn_runs(wildcards.paper, wildcards.table, kind) if has(spec, kind)]
    parts = MEASURING["landscape"][f"{kind}_chunks"]
    return [
        f"results/{SCALE}/landscapes/{spec.paper}/{spec.run}/seed-{spec.seed}/{kind}_{part}-of-{parts}.csv"
        for spec in drawn_runs(wildcards.paper, wildcards.table, kind)
        for part in range(parts)
    ]


def noise_logs(wildcards):
    """What a figure of the gradient noise reads: this log of every run of a table, beside the run's record."""
    rows = {row["run"] for row in table_of(wildcards)["rows"] if row["planned"]}
    specs = [spec for spec in RUNS.values() if spec.paper == wildcards.paper and spec.run in rows]
    if wildcards.view != "noise_course":  # The others show one seed.
        specs = drawn_runs(wildcards.paper, wildcards.table, "line")
    log = NOISE_LOGS[wildcards.view]
    if RECORDED:
        return {"records": [record_of(spec) for spec in specs if has(spec, log)]}
    file = NOISE_FILES[log]
    logs = {"metrics": [f"{spec.folder}/metrics.json" for spec in specs]}
    return {**logs, "logs": [f"{spec.folder}/{file}" for spec in specs]}


def shared_run(wildcards):
    """The run whose filters give a plane's directions their lengths, if it is not the run itself.

    It is the first of `planes` with the same network, in the first table in which the run has a plane.
    """
    if wildcards.kind == "line" or not MEASURING["landscape"]["shared"]:
        return None
    tables = tables_at(CONFIG, wildcards.paper)
    drawn = [drawn_runs(wildcards.paper, table, "plane") for table in tables]
    model = spec_of(wildcards).model
    firsts = [
        next(spec for spec in specs if spec.model == model)
        for specs in drawn
        if wildcards.run in (spec.run for spec in specs)
    ]
    return firsts[0] if firsts and firsts[0].run != wildcards.run else None


def landscape_run(wildcards):
    """What a part of a landscape reads."""
    like = shared_run(wildcards)
    return {**run_files(spec_of(wildcards)), **({"like": f"{like.folder}/model.safetensors"} if like else {})}


def landscape_options(wildcards):
    """The options of a part of a landscape.

    It does not take `input`: what depends on that is no reason for Snakemake to run a job again.
    """
    settings, shared = MEASURING["landscape"], shared_run(wildcards)
    images = [f"--images {settings['images']}"] if settings["images"] else []
    like = [f"--like {shared.folder}"] if shared else []
    return " ".join([f"--points {settings[f'{wildcards.kind}_points']}", *images, *like])


def results_of(file):
    """An input function: this file of every run of a paper."""

    def files(wildcards):
        return [f"{spec.folder}/{file}" for spec in RUNS.values() if spec.paper == wildcards.paper]

    return files


def table_of(wildcards):
    """The published table behind a path."""
    return tables_at(CONFIG, wildcards.paper)[wildcards.table]


def tables_of(paper, *kinds):
    """Paths of a paper's tables."""
    return [f"results/{SCALE}/tables/{paper}_{name}.{kind}" for name in tables_at(CONFIG, paper) for kind in kinds]


def figures_of(paper, *kinds):
    """Paths of a paper's figures."""
    names = [f"{paper}_{table}_{kind}" for table in tables_at(CONFIG, paper) for kind in kinds_of(paper, table)]
    names.extend(name for table in tables_at(CONFIG, paper) for name in sheets_of(paper, table))
    return [f"results/{SCALE}/figures/{name}.{kind}" for name in dict.fromkeys(names) for kind in kinds]


def kinds_of(paper, table):
    """Kinds of the figures of a table; one of which no row is run has none, and what is not measured is not drawn."""
    content = tables_at(CONFIG, paper)[table]
    if not any(row["planned"] for row in content["rows"]):
        return []
    missing = set() if CONFIG["measures"] else {*LANDSCAPES, "histograms"}
    missing |= set() if content["planes"] else {kind for kind in LANDSCAPES if LANDSCAPES[kind] == "plane"}
    missing |= set() if "keskar" in CONFIG["measures"] else {"histograms"}
    measured = needed_measures([content["metric"]]) <= set(CONFIG["measures"])
    missing |= set() if measured else set(GRID_FIGURES)
    if RECORDED:
        # What a figure is drawn of; a record may lack it.
        needed = {kind: (NOISE_LOGS | LANDSCAPES).get(kind) for kind in content["figures"]}
        drawn = {kind: drawn_runs(paper, table, LANDSCAPES.get(kind, "line")) for kind in content["figures"]}
        missing |= {kind for kind, part in needed.items() if part and not any(has(spec, part) for spec in drawn[kind])}
    return [kind for kind in content["figures"] if kind not in missing]


def colours_of(wildcards):
    """The colour of each method of a table, the same at every scale."""
    return method_colours(load_paper(wildcards.paper)["tables"])[wildcards.table]


def sheets_of(paper, table):
    """Names of the figures of the stores that a table's runs train on; records have no images."""
    if RECORDED:
        return []
    rows = {row["run"] for row in tables_at(CONFIG, paper)[table]["rows"]}
    specs = [spec for spec in RUNS.values() if spec.paper == paper and spec.run in rows and spec.store]
    return list(dict.fromkeys(f"{spec.dataset}_{spec.store.name}_sheet" for spec in specs))


def trajectories_of(wildcards):
    """The picture of descent on a loss with two weights that a path names."""
    if load_paper(wildcards.paper)["trajectories"] is None:
        raise WorkflowError(f"papers/{wildcards.paper}.yaml has no trajectories")
    return load_paper(wildcards.paper)["trajectories"]


def trajectory_files(paper, *kinds):
    """Paths of a paper's picture of descent on a loss with two weights, if it has one."""
    if load_paper(paper)["trajectories"] is None:
        return []
    numbers = f"results/{SCALE}/{paper}/trajectories.csv"
    return [numbers if kind == "csv" else f"results/{SCALE}/figures/{paper}_gd-2d.{kind}" for kind in kinds]


def claims_of(paper, kind):
    """Path of a paper's verdicts, if it makes claims."""
    return [f"results/{SCALE}/claims/{paper}.{kind}"] if claims_at(CONFIG, paper) else []


def measure_outputs(*kinds):
    """What is made of all papers' measures: tables, and a reading, that say what they show together."""
    if not CONFIG["measures"]:
        return []
    names = ("table.csv", "table.md", "table.html", "runs.csv", "tidy.csv", "reading.md", "reading.html")
    files = {name: f"results/{SCALE}/measures/{name}" for name in names}
    figure = f"results/{SCALE}/figures/measures_correlations.png"
    return [files[kind] if kind in files else figure for kind in kinds or (*files, "figure")]


def outputs_of(paper):
    """Everything that is made for a paper."""
    return [
        *tables_of(paper, "csv", "md", "tex", "html"),
        *figures_of(paper, "svg", "png"),
        *trajectory_files(paper, "csv", "svg", "png", "gif"),
        *claims_of(paper, "md"),
        *claims_of(paper, "html"),
    ]


include: "recorded.smk"
include: "contents.smk"
