"""papers/*.yaml: the published tables and the runs behind them, mapped to a scale."""

from collections.abc import Collection, Mapping
from functools import cache

from whysgd.data.catalog import BUILT_IN
from whysgd.data.shape import images_of
from whysgd.errors import UserError
from whysgd.study.claims import Claim, needed_measures, planned_rows
from whysgd.study.config import PAPERS, SAME
from whysgd.study.grids import thinned
from whysgd.study.layout import lay_out, reference_of
from whysgd.study.length import epoch_at, epoch_images, misfit, total_steps, trained_images
from whysgd.study.names import same_but_for_case
from whysgd.study.paper import Paper
from whysgd.study.published import mark_edited
from whysgd.study.registry import problem
from whysgd.study.spec import FULL_BATCH, ONE_MICRO_BATCH, RunSpec
from whysgd.study.trajectories import check_trajectories
from whysgd.study.validation import check_known, checked, read_yaml


@cache
def load_paper(name: str) -> dict:
    """Return a paper, laid out by `whysgd.study.layout.lay_out`, with all settings of its `runs` at paper scale.

    Raises:
        UserError: its file is missing or not valid; the line names file and key.
    """
    file = f"papers/{name}.yaml"
    paper = checked(Paper, read_yaml(PAPERS / f"{name}.yaml"), lambda _: file).model_dump(by_alias=True)
    if paper["paper"] != name:
        raise UserError(f"{file}: paper = {paper['paper']!r}: must be the name of the file, {name}")
    paper["runs"] = {run: _settings(paper, run, file) for run in paper["runs"]}
    lay_out(paper, file)
    for key in ("runs", "tables"):
        if pair := same_but_for_case(paper[key]):
            why = "differ in case alone; some disks have one place for both"
            raise UserError(f"{file}: {key}: {' and '.join(pair)}: {why}")
    check_trajectories(paper["trajectories"], file)
    mark_edited(paper, PAPERS)
    return paper


def tables_at(config: Mapping, name: str) -> dict:
    """Return the tables of a paper that belong to the configured scale, by name; `planned` says which rows are run.

    Of a grid that the scale thins, the cells that it leaves out are not among the rows. Where results are those of
    records (`whysgd.results.recorded.with_records`), a row without one is not planned, and marked by `recorded`: False.
    `planes` are those that are planned.

    Raises:
        UserError: the scale names a table, a run or a row that the paper does not have, or leaves out a run whose
            gradient norms another one takes.
    """
    paper, scale = load_paper(name), config["scales"][config["scale"]]
    where, skipped = f"config: scales.{config['scale']}", scale["skip"].get(name, [])
    for key in ("tables", "grids", "table_seeds"):
        for table in scale[key].get(name, ()):
            check_known(table, paper["tables"], f"{where}.{key}.{name}: no table {table!r}")
    for one in skipped:
        check_known(one, paper["runs"], f"{where}.skip.{name}: no run or row {one!r}")
    chosen = {table: paper["tables"][table] for table in scale["tables"].get(name, paper["tables"])}
    for table, values in scale["grids"].get(name, {}).items():
        if table in chosen:
            chosen[table] = thinned(chosen[table], values, f"{where}.grids.{name}.{table}")
    records = config["recorded"].get(name, {}) if "recorded" in config else None
    planned = {}
    for table, content in chosen.items():
        rows = [_planned(row, skipped, records) for row in content["rows"]]
        made = {row["run"] for row in rows if row["planned"]}
        planned[table] = {**content, "rows": rows, "planes": [run for run in content["planes"] if run in made]}
    made = dict.fromkeys(row["run"] for table in planned.values() for row in table["rows"] if row["planned"])
    for run in made if records is None else ():
        if (reference := reference_of(paper["runs"][run])) not in (None, *made):
            takes = f"is not run at this scale, but {run!r} takes its gradient norms"
            raise UserError(f"{where}.skip.{name}: {reference!r} {takes}")
    return planned


def _planned(row: Mapping, skipped: Collection[str], records: Mapping | None) -> dict:
    """Return a row with `planned`; of a measured quantity only a record with that measure counts."""
    planned = row["run"] is not None and not {row["run"], row["row"]} & set(skipped)
    if planned and records is not None:
        needed, found = needed_measures([row["metric"]]), records.get(row["run"], {})
        if not any(needed <= set(parts) for _, parts in found.values()):
            return {**row, "planned": False, "recorded": False}
    return {**row, "planned": planned}


def claims_at(config: Mapping, name: str) -> list[Claim]:
    """Return the claims of a paper that the configured scale can judge, at least a part; see `Claim.at_scale`."""
    tables = tables_at(config, name)
    # A row without a record is one of which nothing is known, not one that the scale leaves out.
    planned = {row["run"] for table in tables.values() for row in table["rows"] if row["planned"] or "recorded" in row}
    rows = {table: planned_rows(content) for table, content in tables.items()}
    claims = (claim.at_scale(planned, rows) for claim in load_paper(name)["claims"])
    return [claim for claim in claims if claim is not None]


def _settings(paper: dict, run: str, file: str, seen: tuple = ()) -> dict:
    if run in seen:
        raise UserError(f"{file}: runs.{run}.like: goes in a circle: {' -> '.join((*seen, run))}")
    own = dict(paper["runs"][run])
    like = own.pop("like", None)
    if like is None:
        return {**paper["defaults"], **own}
    check_known(like, paper["runs"], f"{file}: runs.{run}.like = {like!r}: no such run")
    return {**_settings(paper, like, file, (*seen, run)), **own}


def expand(config: Mapping) -> dict[tuple[str, str, int], RunSpec]:
    """Return every run of the configured papers' tables at the configured scale, by (paper, run, seed)."""
    return {
        (paper, run, seed): scaled_spec(config, paper, run, seed)
        for paper in config["papers"]
        for run, seeds in seeds_of(config, paper).items()
        for seed in seeds
    }


def seeds_of(config: Mapping, name: str) -> dict[str, list[int]]:
    """Return the seeds of every run of a paper that is made at the configured scale.

    These are the configuration's own, if it has any. Otherwise they are those of the scale, or, for a table to which it
    gives a number n in `table_seeds`, 0 … n − 1; a run of several tables has the seeds of all, and one whose gradient
    norms are grafted onto another also those of that one. Where results are those of records, these have the seeds.

    Raises:
        UserError: as `tables_at`.
    """
    if "recorded" in config:
        return {run: list(seeds) for run, seeds in config["recorded"].get(name, {}).items()}
    runs, scale = load_paper(name)["runs"], config["scales"][config["scale"]]
    counts = scale["table_seeds"].get(name, {})
    seeds: dict[str, set[int]] = {}
    for key, table in tables_at(config, name).items():
        own = config["seeds"] or (range(counts[key]) if key in counts else scale["seeds"])
        for row in table["rows"]:
            if row["planned"]:
                seeds.setdefault(row["run"], set()).update(own)
    for run in seeds:
        reference = reference_of(runs[run])
        while reference is not None:
            seeds[reference] |= seeds[run]
            reference = reference_of(runs[reference])
    return {run: sorted(own) for run, own in seeds.items()}


def scaled_spec(config: Mapping, paper: str, run: str, seed: int) -> RunSpec:
    """Return the specification of a run at the configured scale.

    The rules, the same for every row: data set and network by the scale's maps; epochs, steps (`stop_every` and
    `select_every`, too) and the schedule's times, unless they are shares of the run, divided by `time_divisor`, those
    that are counted rounded and at least 1; micro-batches divided by `micro_batch_divisor`; as many of them in a step
    as published or, where there are several and not all, so many divided by `batch_divisor`, and at least 2 (smaller
    ones, where the batch would else be divided by less); learning rate times `lr_factor`, and divided by
    `micro_batch_divisor` where a step does not take all images, because the best learning rate grows with the batch
    (Goyal et al. 2017, arXiv 1706.02677), but by one number, so that batches of several sizes with one learning rate
    keep one; λ of a micro-batch penalty divided by `strength_divisor`; stored copies divided by `copies_divisor`; the
    scale's augmentation where the row, or its stored copies, have one.
    The paper's normalization belongs to its data set: another one uses its own statistics.
    """
    runs = load_paper(paper)["runs"]
    check_known(run, runs, f"papers/{paper}.yaml: runs: no run {run!r}")
    settings = dict(runs[run])
    where = f"papers/{paper}.yaml: runs.{run}"
    required = {"dataset", "model", "batch", "micro_batch", "lr", "schedule"}
    if missing := sorted(required - set(settings)):
        raise UserError(f"{where}: {', '.join(missing)} must be given, here or under defaults")

    scale = scale_of(config, paper)
    _check_names(settings["dataset"], settings["model"], config, where)
    dataset = _mapped(scale["datasets"], settings["dataset"])
    if dataset != settings["dataset"]:
        settings["normalize"] = None
    settings["dataset"] = dataset
    settings["model"] = _mapped(scale["models"], settings["model"])
    settings["lr"] *= scale["lr_factor"] / (1 if settings["batch"] == FULL_BATCH else scale["micro_batch_divisor"])
    settings |= _scaled_times(settings, scale["time_divisor"])
    settings |= _scaled_sizes(settings, scale, where)
    if (settings.get("penalty") or {}).get("strength") is not None:
        strength = settings["penalty"]["strength"] / scale["strength_divisor"]
        settings["penalty"] = {**settings["penalty"], "strength": strength}
    if settings.get("augment") and scale["augmentation"]:
        settings["augment"] = {**settings["augment"], **scale["augmentation"]}
    if settings.get("store"):
        copies = max(1, round(settings["store"]["copies"] / scale["copies_divisor"]))
        settings["store"] = {**settings["store"], "copies": copies, **(scale["augmentation"] or {})}

    given = {"precision": config["precision"], **settings, "evaluations": config["evaluations"]}
    try:
        spec = RunSpec.from_dict({"paper": paper, "run": run, "scale": config["scale"], "seed": seed, **given})
    except ValueError as error:
        raise UserError(f"{where}: at scale {config['scale']}: {error}") from None
    _check(spec, config, where)
    return spec


def scale_of(config: Mapping, paper: str) -> dict:
    """Return the configured scale's rules, as they are for one paper."""
    scale = config["scales"][config["scale"]]
    return {**scale, **scale["rules_of"].get(paper, {})}


def _scaled_times(settings: Mapping, divisor: float) -> dict:
    """The settings that are times, divided; epochs and steps stay whole numbers, shares of the run as they are.

    A warmup that becomes shorter than one unit is left out: it would still be a whole unit without a step.
    """
    schedule = settings["schedule"]
    times = {key: schedule[key] / divisor for key in ("warmup", "horizon") if schedule.get(key) is not None}
    if divisor > 1 and times.get("warmup", 1) < 1:
        times["warmup"] = 0
    if schedule.get("milestones") is not None:
        times["milestones"] = [time / divisor for time in schedule["milestones"]]
    if schedule.get("decay") == "exponential":
        times["gamma"] = schedule["gamma"] ** divisor
    scaled = {"schedule": schedule if schedule["unit"] == "run" else {**schedule, **times}}
    for key in ("epochs", "steps", "select_every", "stop_every"):
        if settings.get(key) is not None:
            scaled[key] = max(1, round(settings[key] / divisor))
    if settings.get("switch"):
        scaled["switch"] = [{**one, "at": max(1, round(one["at"] / divisor))} for one in settings["switch"]]
    if settings.get("probe"):
        scaled["probe"] = {**settings["probe"], "every": max(1, round(settings["probe"]["every"] / divisor))}
    return scaled


def _scaled_sizes(settings: Mapping, scale: Mapping, where: str) -> dict:
    """The settings that are numbers of images, with the micro-batches in a batch divided by `batch_divisor`."""

    def divided(images):
        return max(1, round(images / scale["micro_batch_divisor"]))

    def fewer(count):
        return count if count == 1 else max(2, round(count / scale["batch_divisor"]))

    def part(images):
        """A part of the batch: smaller than divided alone where there cannot be so few of them."""
        count = 1 if batch in (FULL_BATCH, ONE_MICRO_BATCH) else max(1, batch // images)
        return divided(images if count == 1 else images * count / (scale["batch_divisor"] * fewer(count)))

    def batch_of(batch, key):
        batch = size if batch == ONE_MICRO_BATCH else batch
        if batch != FULL_BATCH and batch % size:
            needed = f"must be `all`, `micro_batch` or a multiple of the micro-batch, {size}"
            raise UserError(f"{where}.{key} = {batch}: {needed}")
        return batch if batch == FULL_BATCH else fewer(batch // size) * scaled["micro_batch"]

    size, batch = settings["micro_batch"], settings["batch"]
    scaled = {"micro_batch": part(size)}
    scaled["batch"] = batch_of(batch, "batch")
    if settings.get("switch"):
        scaled["switch"] = [
            {**one, "to": batch_of(one["to"], f"switch[{index}].to")} for index, one in enumerate(settings["switch"])
        ]
    if settings.get("probe"):
        scaled["probe"] = {**settings["probe"], "micro_batch": divided(settings["probe"]["micro_batch"])}
    if (settings.get("penalty") or {}).get("sample"):
        scaled["penalty"] = {**settings["penalty"], "sample": part(settings["penalty"]["sample"])}
    return scaled


def _mapped(names: Mapping, name: str) -> str:
    """What stands for a name at a scale; `"*"` does not stand for a dotted path, which is a network of one's own."""
    target = names.get(name, SAME if ":" in name else names.get("*", SAME))
    return name if target == SAME else target


def _check_names(dataset: str, model: str, config: Mapping, where: str) -> None:
    """Refuse a data set or network that there is not, whether or not the scale has another one in its place."""
    check_known(dataset, [*BUILT_IN, *config["datasets"]], f"{where}.dataset = {dataset!r}: no such data set")
    if (why := problem("network", model)) is not None:
        raise UserError(f"{where}.model = {model!r}: no such network; {why}")


def _check(spec: RunSpec, config: Mapping, where: str) -> None:
    """Refuse what cannot run, before anything runs."""

    def refuse(key, value, allowed):
        raise UserError(f"{where}.{key} = {value!r} at scale {spec.scale}: {allowed}")

    there = images_of(config, spec.dataset)
    images = trained_images(spec, there.train)
    if wrong := misfit(spec, there.train):
        key, value, allowed_here = wrong
        remedy = f"; a larger scales.{spec.scale}.micro_batch_divisor makes micro-batches smaller"
        refuse(key, value, f"{allowed_here} ({spec.dataset}){remedy if key in ('micro_batch', 'batch') else ''}")
    if spec.noise and spec.micro_batch > images // 2:
        needed = f"must be at most {images // 2}, half of the images: noise needs two micro-batches"
        refuse("micro_batch", spec.micro_batch, needed)
    for name in ("gradient_noise", "tail_index"):
        micro_batch = config["scales"][spec.scale]["measuring"][name]["micro_batch"]
        if name in config["measures"] and images < 2 * micro_batch:
            key, needed = f"scales.{spec.scale}.measuring.{name}.micro_batch", f"the {images} images of {spec.run}"
            raise UserError(f"config: {key} = {micro_batch}: must be at most {images // 2}, half of {needed}")
    most = config["scales"][spec.scale]["measuring"]["landscape"]["images"]
    if config["measures"] and most and hasattr(spec.penalty, "block_strength") and most < spec.micro_batch:
        key = f"scales.{spec.scale}.measuring.landscape.images"
        raise UserError(f"config: {key} = {most}: must be at least {spec.micro_batch}, a micro-batch of {spec.run}")
    sample = getattr(spec.penalty, "sample", None)
    if sample and sample > (step := epoch_images(spec, images) if spec.full_batch else spec.batch):
        refuse("penalty.sample", sample, f"must be at most {step}, the images of a step")
    if spec.schedule.unit != "run":  # Shares of the run were checked with the specification.
        steps = total_steps(spec, images)
        length = epoch_at(spec, images, steps - 1) + 1 if spec.schedule.unit == "epoch" else steps
        last = max(getattr(spec.schedule, "milestones", (0,)))
        for key, value in (("warmup", spec.schedule.warmup), ("milestones", last)):
            if value > length:
                refuse(f"schedule.{key}", value, f"must be at most {length}, the run's {spec.schedule.unit}s")
    if spec.nesterov and not spec.momentum:
        refuse("nesterov", spec.nesterov, "needs a momentum above 0")
    if spec.normalize and not there.channels == len(spec.normalize.mean) == len(spec.normalize.std):
        needed = f"mean and std need one number for each of {there.channels} channels"
        refuse("normalize", dict(spec.normalize), needed)
    for key in ("augment", "store"):
        if (crop := getattr(spec, key)) and crop.crop_padding > there.size:
            refuse(f"{key}.crop_padding", crop.crop_padding, f"must be at most {there.size}, the images' size")
