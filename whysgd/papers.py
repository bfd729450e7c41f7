"""papers/*.yaml: the published tables and the runs behind them, mapped to a scale."""

import math
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path

from whysgd.config import BUILT_IN, PAPERS, SAME
from whysgd.errors import UserError
from whysgd.models.catalog import CATALOG
from whysgd.spec import FULL_BATCH, RunSpec, steps_per_epoch
from whysgd.validation import read_yaml, validated


@cache
def load_paper(name: str) -> dict:
    """One paper: its tables, claims and `runs`, each with all its settings at paper scale.

    Raises:
        UserError: its file is missing or not valid; the line names file and key.
    """
    file = f"papers/{name}.yaml"
    paper = validated(read_yaml(PAPERS / f"{name}.yaml"), "paper.schema.yaml", lambda _: file)
    if paper["paper"] != name:
        raise UserError(f"{file}: paper = {paper['paper']!r}: must be the name of the file, {name}")
    paper["runs"] = {run: _settings(paper, run, file) for run in paper["runs"]}
    for table, content in paper["tables"].items():
        for index, row in enumerate(content["rows"]):
            if row["run"] not in paper["runs"]:
                allowed = ", ".join(paper["runs"])
                where = f"{file}: tables.{table}.rows[{index}].run"
                raise UserError(f"{where} = {row['run']!r}: no such run; allowed: {allowed}")
    return paper


def _settings(paper: dict, run: str, file: str, seen: tuple = ()) -> dict:
    if run in seen:
        raise UserError(f"{file}: runs.{run}.like: goes in a circle: {' -> '.join((*seen, run))}")
    own = dict(paper["runs"][run])
    like = own.pop("like", None)
    if like is None:
        return {**paper.get("defaults", {}), **own}
    if like not in paper["runs"]:
        raise UserError(f"{file}: runs.{run}.like = {like!r}: no such run; allowed: {', '.join(paper['runs'])}")
    return {**_settings(paper, like, file, (*seen, run)), **own}


def expand(config: Mapping, papers=None) -> dict[tuple[str, str, int], RunSpec]:
    """Every run of the papers' tables at the configured scale, by (paper, run, seed).

    Args:
        config: a validated configuration.
        papers: names; by default those of the configuration.

    Raises:
        UserError: a setting that cannot be run; the line names file, key, value and what is allowed.
    """
    seeds = config["seeds"] or config["scales"][config["scale"]]["seeds"]
    specs = {}
    for name in papers or config["papers"]:
        paper = load_paper(name)
        used = {row["run"]: None for table in paper["tables"].values() for row in table["rows"]}
        for run in used:
            for seed in seeds:
                specs[name, run, seed] = scaled_spec(config, name, run, seed)
    return specs


def scaled_spec(config: Mapping, paper: str, run: str, seed: int) -> RunSpec:
    """One run at the configured scale.

    The rules, the same for every row: data set and network by the scale's maps; epochs, warmup
    and horizon divided by `time_divisor`, the epochs rounded and at least 1; block and macro-batch
    divided by `block_divisor`; learning rate times `lr_factor`; the scale's augmentation where the
    row has one. The paper's normalization belongs to its data set: another one uses its own
    statistics.
    """
    runs = load_paper(paper)["runs"]
    if run not in runs:
        raise UserError(f"papers/{paper}.yaml: runs: no run {run!r}; allowed: {', '.join(runs)}")
    settings = dict(runs[run])
    where = f"papers/{paper}.yaml: runs.{run}"
    required = {"dataset", "model", "macro_batch", "block", "epochs", "lr", "schedule"}
    if missing := sorted(required - set(settings)):
        raise UserError(f"{where}: {', '.join(missing)} must be given, here or under defaults")

    scale = config["scales"][config["scale"]]
    dataset = _mapped(scale["datasets"], settings["dataset"])
    if dataset != settings["dataset"]:
        settings["normalize"] = None
    settings["dataset"] = dataset
    settings["model"] = _mapped(scale["models"], settings["model"])
    settings["epochs"] = max(1, round(settings["epochs"] / scale["time_divisor"]))
    settings["lr"] *= scale["lr_factor"]
    settings["block"] = max(1, round(settings["block"] / scale["block_divisor"]))
    if settings["macro_batch"] != FULL_BATCH:
        settings["macro_batch"] = max(1, round(settings["macro_batch"] / scale["block_divisor"]))
    times = {key: settings["schedule"][key] / scale["time_divisor"] for key in ("warmup", "horizon")}
    settings["schedule"] = {**settings["schedule"], **times}
    if settings.get("augment") and scale["augmentation"]:
        settings["augment"] = scale["augmentation"]

    given = {**settings, "evaluations": config["evaluations"]}
    spec = RunSpec.from_dict({"paper": paper, "run": run, "scale": config["scale"], "seed": seed, **given})
    _check(spec, config, where)
    return spec


def _mapped(names: Mapping, name: str) -> str:
    target = names.get(name, names.get("*", SAME))
    return name if target == SAME else target


def _check(spec: RunSpec, config: Mapping, where: str) -> None:
    """Refuse what cannot run, before anything runs."""

    def refuse(key, allowed):
        value = getattr(spec, key)
        shown = value if isinstance(value, int | float | str) else asdict(value)
        raise UserError(f"{where}.{key} = {shown!r} at scale {spec.scale}: {allowed}")

    known = [*BUILT_IN, *config["datasets"]]
    if spec.dataset not in known:
        refuse("dataset", f"no such data set; allowed: {', '.join(known)}")
    if spec.model not in CATALOG:
        refuse("model", f"no such network; allowed: {', '.join(CATALOG)}")
    images = train_images(config, spec.dataset)
    for key in ("block", "macro_batch"):
        size = getattr(spec, key)
        if images is not None and size != FULL_BATCH and size > images:
            refuse(key, f"must be at most {images}, the training images of {spec.dataset}")
    if not spec.full_batch and spec.macro_batch % spec.block:
        refuse("macro_batch", f"must be `all` or a multiple of the block size {spec.block}")
    length = spec.epochs
    if spec.schedule.unit == "step":
        length = spec.epochs * steps_per_epoch(spec, images) if images is not None else math.inf
    if spec.schedule.warmup > length:
        refuse("schedule", f"the warmup must not be longer than the run of {length} {spec.schedule.unit}s")
    if spec.nesterov and not spec.momentum:
        refuse("nesterov", "needs a momentum above 0")
    if spec.augment and spec.dataset in BUILT_IN:
        size = BUILT_IN[spec.dataset]["size"]
        if spec.augment.crop_padding > size:
            refuse("augment", f"the padding must be at most {size}, the images' size")


def train_images(config: Mapping, dataset: str) -> int | None:
    """How many training images a data set has, where that is known before it is built."""
    if dataset in BUILT_IN:
        return BUILT_IN[dataset]["train"]
    own = config["datasets"][dataset]
    folder = Path(own["path"]) / "train"
    if not folder.is_dir():
        return own["train_images"]
    found = sum(1 for file in folder.glob("*/*") if not file.name.startswith("."))
    return min(found, own["train_images"] or found)
