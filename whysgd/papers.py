"""papers/*.yaml: the published tables and the runs behind them, mapped to a scale."""

from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path

from whysgd.checks import parse_check
from whysgd.config import PAPERS, SAME
from whysgd.data.catalog import BUILT_IN
from whysgd.errors import UserError
from whysgd.models.catalog import ALLOWED, architecture
from whysgd.spec import FULL_BATCH, RunSpec, steps_per_epoch
from whysgd.validation import read_yaml, validated


@cache
def load_paper(name: str) -> dict:
    """One paper: its tables, claims and `runs`, each with all its settings at paper scale.

    A table of rows × columns is laid out as one row for each cell, whose run is `run.column` (or the row's own
    run, for a column that changes nothing); `column` is the column's label, None in a table without columns.

    Raises:
        UserError: its file is missing or not valid; the line names file and key.
    """
    file = f"papers/{name}.yaml"
    paper = validated(read_yaml(PAPERS / f"{name}.yaml"), "paper.schema.yaml", lambda _: file)
    if paper["paper"] != name:
        raise UserError(f"{file}: paper = {paper['paper']!r}: must be the name of the file, {name}")
    paper["runs"] = {run: _settings(paper, run, file) for run in paper["runs"]}
    for table, content in paper["tables"].items():
        if content["columns"]:
            content["rows"] = _cells(paper, content, f"{file}: tables.{table}")
        else:
            content["rows"] = [{**row, "column": None} for row in content["rows"]]
        _check_rows(content["rows"], paper["runs"], f"{file}: tables.{table}")
    for index, claim in enumerate(paper["claims"]):
        _check_claim(claim["check"], paper["runs"], f"{file}: claims[{index}]")
    return paper


def _cells(paper: dict, table: dict, where: str) -> list[dict]:
    """One row for each cell of a table with columns; the runs they need are added to the paper's."""
    cells, columns = [], table["columns"]
    for index, row in enumerate(table["rows"]):
        if row["run"] not in paper["runs"]:
            allowed = ", ".join(paper["runs"])
            raise UserError(f"{where}.rows[{index}].run = {row['run']!r}: no such run; allowed: {allowed}")
        published = {}
        for key in ("mean", "std"):
            published[key] = [None] * len(columns) if row[key] is None else row[key]
            if not isinstance(published[key], list) or len(published[key]) != len(columns):
                wanted = f"must have a number or null for each of {', '.join(columns)}"
                raise UserError(f"{where}.rows[{index}].{key} = {row[key]!r}: {wanted}")
        for (name, column), mean, std in zip(columns.items(), published["mean"], published["std"], strict=True):
            run = row["run"]
            if column["settings"]:
                run = f"{row['run']}.{name}"
                paper["runs"][run] = {**paper["runs"][row["run"]], **column["settings"]}
            cells.append({**row, "run": run, "column": column["label"], "mean": mean, "std": std})
    return cells


def tables_at(config: Mapping, name: str) -> dict:
    """The tables of a paper that are run at the configured scale, by name.

    Raises:
        UserError: the scale names a table that the paper does not have.
    """
    tables = load_paper(name)["tables"]
    chosen = config["scales"][config["scale"]]["tables"].get(name, list(tables))
    for table in chosen:
        if table not in tables:
            where = f"scales.{config['scale']}.tables.{name}"
            raise UserError(f"config: {where}: no table {table!r}; allowed: {', '.join(tables)}")
    return {table: tables[table] for table in chosen}


def claims_at(config: Mapping, name: str) -> list[dict]:
    """The claims of a paper whose runs all belong to the configured scale."""
    planned = {row["run"] for table in tables_at(config, name).values() for row in table["rows"]}
    return [
        claim
        for claim in load_paper(name)["claims"]
        if all(run in planned for comparison in parse_check(claim["check"]) for run in comparison.runs)
    ]


def _check_rows(rows: list[dict], runs: Mapping, where: str) -> None:
    for index, row in enumerate(rows):
        if row["run"] not in runs:
            raise UserError(f"{where}.rows[{index}].run = {row['run']!r}: no such run; allowed: {', '.join(runs)}")
        for key in ("run", "label"):
            if (row[key], row["column"]) in [(other[key], other["column"]) for other in rows[:index]]:
                raise UserError(f"{where}.rows[{index}].{key} = {row[key]!r}: another row of the table has it")


def _check_claim(check: str, runs: Mapping, where: str) -> None:
    try:
        comparisons = parse_check(check)
    except UserError as error:
        raise UserError(f"{where}.{error}") from None
    for run in (name for comparison in comparisons for name in comparison.runs):
        if run not in runs:
            raise UserError(f"{where}.check = {check!r}: no run {run!r}; allowed: {', '.join(runs)}")


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


def expand(config: Mapping) -> dict[tuple[str, str, int], RunSpec]:
    """Every run of the configured papers' tables at the configured scale, by (paper, run, seed).

    Args:
        config: a validated configuration.

    Raises:
        UserError: a setting that cannot be run; the line names file, key, value and what is allowed.
    """
    seeds = config["seeds"] or config["scales"][config["scale"]]["seeds"]
    specs = {}
    for name in config["papers"]:
        used = {row["run"]: None for table in tables_at(config, name).values() for row in table["rows"]}
        for run in used:
            for seed in seeds:
                specs[name, run, seed] = scaled_spec(config, name, run, seed)
    return specs


def scaled_spec(config: Mapping, paper: str, run: str, seed: int) -> RunSpec:
    """One run at the configured scale.

    The rules, the same for every row: data set and network by the scale's maps; epochs, warmup
    and horizon divided by `time_divisor`, the epochs rounded and at least 1; block and macro-batch
    divided by `block_divisor`; learning rate times `lr_factor`; stored copies divided by
    `copies_divisor`; the scale's augmentation where the row, or its stored copies, have one. The
    paper's normalization belongs to its data set: another one uses its own statistics.
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
    if settings.get("store"):
        copies = max(1, round(settings["store"]["copies"] / scale["copies_divisor"]))
        settings["store"] = {**settings["store"], "copies": copies, **(scale["augmentation"] or {})}

    if settings["macro_batch"] != FULL_BATCH and settings["macro_batch"] % settings["block"]:
        shown = f"{where}.macro_batch = {settings['macro_batch']} at scale {config['scale']}"
        raise UserError(f"{shown}: must be `all` or a multiple of the block size {settings['block']}")
    given = {"precision": config["precision"], **settings, "evaluations": config["evaluations"]}
    try:
        spec = RunSpec.from_dict({"paper": paper, "run": run, "scale": config["scale"], "seed": seed, **given})
    except ValueError as error:
        raise UserError(f"{where}: at scale {config['scale']}: {error}") from None
    _check(spec, config, where)
    return spec


def _mapped(names: Mapping, name: str) -> str:
    target = names.get(name, names.get("*", SAME))
    return name if target == SAME else target


def _check(spec: RunSpec, config: Mapping, where: str) -> None:
    """Refuse what cannot run, before anything runs."""

    def refuse(key, value, allowed):
        raise UserError(f"{where}.{key} = {value!r} at scale {spec.scale}: {allowed}")

    known = [*BUILT_IN, *config["datasets"]]
    if spec.dataset not in known:
        refuse("dataset", spec.dataset, f"no such data set; allowed: {', '.join(known)}")
    if architecture(spec.model) is None:
        refuse("model", spec.model, f"no such network; allowed: {', '.join(ALLOWED)}")
    images = train_images(config, spec.dataset)
    for key in ("block", "macro_batch"):
        size = getattr(spec, key)
        if size != FULL_BATCH and size > images:
            remedy = f"; a larger scales.{spec.scale}.block_divisor makes blocks smaller"
            refuse(key, size, f"must be at most {images}, the training images of {spec.dataset}{remedy}")
    per_epoch = 1 if spec.schedule.unit == "epoch" else steps_per_epoch(spec, images)
    length = spec.epochs * per_epoch
    if spec.schedule.warmup > length:
        refuse("schedule.warmup", spec.schedule.warmup, f"must be at most {length}, the run's {spec.schedule.unit}s")
    if spec.nesterov and not spec.momentum:
        refuse("nesterov", spec.nesterov, "needs a momentum above 0")
    builtin = BUILT_IN.get(spec.dataset)
    if spec.normalize:
        channels = builtin["channels"] if builtin else len(spec.normalize.mean)
        if not channels == len(spec.normalize.mean) == len(spec.normalize.std):
            refuse("normalize", asdict(spec.normalize), f"mean and std need one number for each of {channels} channels")
    if spec.augment and builtin and spec.augment.crop_padding > builtin["size"]:
        refuse(
            "augment.crop_padding", spec.augment.crop_padding, f"must be at most {builtin['size']}, the images' size"
        )


def train_images(config: Mapping, dataset: str) -> int:
    """How many training images a data set has or will have.

    Raises:
        UserError: it is an image folder that does not exist.
    """
    if dataset in BUILT_IN:
        return BUILT_IN[dataset]["train"]
    own = config["datasets"][dataset]
    folder = Path(own["path"], "train")
    if not folder.is_dir():
        raise UserError(
            f"datasets.{dataset}.path = {own['path']!r}: no folder {folder}; needs train/<class>/ and test/<class>/"
        )
    found = sum(not file.name.startswith(".") for file in folder.glob("*/*"))
    return min(found, own["train_images"] or found)
