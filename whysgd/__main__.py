"""The command line: `python -m whysgd COMMAND`. Everything the workflow does also runs without it."""

import argparse
import json
import os
import sys
from contextlib import suppress
from itertools import chain
from pathlib import Path

from whysgd.errors import StopSignal, UserError, listed, nearest
from whysgd.files import write_text
from whysgd.measures.catalog import MEASURES
from whysgd.results.paths import RECORDS, batch_name, batch_seeds, dataset_folder, run_folder, store_file
from whysgd.study.arguments import Parser, a_path, is_a
from whysgd.study.names import NEEDED, is_name
from whysgd.study.settings import Count, Few, Index, NotNegative, Points, Positive, Threads
from whysgd.study.spec import RunSpec, StoredCopies


def main(arguments: list[str] | None = None) -> int:
    """Run one command; a user's error is one line on stderr and exit code 1."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):  # A stream may be closed, or not one of a file.
            stream.reconfigure(errors="replace")  # An 8-bit locale lacks half of our signs.
    try:
        options = _parser().parse_args(arguments)
        return options.command(options) or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except StopSignal as stopped:
        print(stopped, file=sys.stderr)
        return 128 + stopped.number
    except BrokenPipeError:
        # The reader of our output has gone; keep Python from complaining about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if error.filename is None:
            raise
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m whysgd", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    train = commands.add_parser("train", help="train seeds of one run, a row of a paper's table")
    train.add_argument("run", nargs="?", metavar="PAPER/RUN", help="e.g. geiping2022/fb-clip")
    train.add_argument("--spec", help="a whole specification as JSON, without the seed, instead of PAPER/RUN")
    train.add_argument("--seed", type=is_a(Index), nargs="+", default=[0], help="one or more, trained in one process")
    train.add_argument("--configfile", nargs="+", default=[], help="files laid over config.yaml")
    train.add_argument("--data", type=a_path, help="folder of the data set (default: the workflow's)")
    train.add_argument("--store", type=a_path, help="file of stored copies, for runs on such (default: the workflow's)")
    train.add_argument(
        "--norms", type=a_path, nargs="+", default=[], help="logs of the run whose gradient norms are grafted"
    )
    train.add_argument("--out", type=a_path, help="folder for the results (default: where the workflow puts them)")
    train.add_argument("--engine", choices=["auto", "eager", "compiled"], default="auto")
    train.add_argument("--images-on", choices=["auto", "device", "host"], default="auto")
    train.add_argument("--checkpoint-seconds", type=is_a(Positive), default=30.0)
    train.add_argument(
        "--tensorboard", nargs="?", choices=["on", "off"], default="off", const="on",
        help="write the histories as TensorBoard's events, too, into the folder of the results",
    )  # fmt: skip
    train.add_argument(
        "--wait-seconds",
        type=is_a(NotNegative),
        default=0.0,
        help="for another process in the same folder, to end",
    )
    train.set_defaults(command=_train)

    measure = commands.add_parser("measure", help="take measures of a finished run: sharpness, flatness, noise, ...")
    measure.add_argument("measures", nargs="+", metavar="MEASURE", help=f"{', '.join(MEASURES)}, or all")
    measure.add_argument("--options", default="{}", help="of each measure, as JSON")
    measure.add_argument(
        "--out", type=a_path, help="file for the results (default: measures/all.json in the run's folder)"
    )
    measure.set_defaults(command=_measure)

    landscape = commands.add_parser("landscape", help="losses around a finished run, along random directions")
    landscape.add_argument("kind", choices=["line", "plane"], help="along one direction, or along two")
    landscape.add_argument("--points", type=is_a(Points), default=51, help="of each axis")
    landscape.add_argument("--options", default="{}", help='as JSON, of the page of settings: {"alpha": [-0.5, 0.5]}')
    landscape.add_argument("--chunk", type=is_a(Index), default=0, help="which of the parts, from 0")
    landscape.add_argument("--of", type=is_a(Few), default=1, help="parts that the points are split into")
    landscape.add_argument("--seed", type=is_a(Index), help="which of the folder's (default: the first)")
    landscape.add_argument("--like", type=a_path, help="folder of a run whose filters give directions their lengths")
    landscape.add_argument("--like-seed", type=is_a(Index), help="which of that folder's (default: the first)")
    landscape.add_argument("--out", type=a_path, help="file (default: landscape_KIND.csv in the run's folder)")
    landscape.set_defaults(command=_landscape)
    verify = commands.add_parser("verify", help="train and measure the run of a record again, and compare")
    verify.add_argument("records", nargs="+", type=a_path, metavar="RECORD", help="files under records")
    verify.add_argument("--data", type=a_path, help="folder of the data set (default: results/data/<dataset>)")
    verify.add_argument("--store", type=a_path, help="file of stored copies, for a run on such (default: likewise)")
    verify.set_defaults(command=_verify)
    for command in (measure, landscape):
        command.add_argument("--run", type=a_path, required=True, help="folder of finished seeds of a run")
        command.add_argument("--data", type=a_path, help="folder of the data set (default: results/data/<dataset>)")
        command.add_argument("--images", type=is_a(Count), help="only so many of the training images")
    for command in (train, measure, landscape, verify):
        command.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
        command.add_argument("--threads", type=is_a(Threads), default=1)

    build = commands.add_parser("build-dataset", help="bring a data set into its canonical form")
    build.add_argument("dataset", help="a built-in name or an entry of the configuration's `datasets`")
    build.add_argument("--configfile", nargs="+", default=[], help="files laid over config.yaml")
    build.add_argument("--datasets", help="the configuration's `datasets` as JSON, instead of --configfile")
    build.add_argument("--data-dir", help="folder for downloads, instead of the configuration's")
    build.add_argument("--out", type=a_path, help="default: results/data/<dataset>")
    build.set_defaults(command=_build_dataset)

    store = commands.add_parser("build-store", help="write augmented copies of a data set into one LMDB file")
    store.add_argument("dataset", help="its name, for the default folders")
    store.add_argument("--copies", type=is_a(Count), required=True, help="how many of each image")
    store.add_argument("--crop-padding", type=is_a(Index), default=4, help="pixels of the random crop")
    store.add_argument("--flip", action="store_true", help="flip half of the images")
    store.add_argument("--clean-first", action="store_true", help="the first copy is the images as they are")
    store.add_argument("--seed", type=is_a(Index), default=0)
    store.add_argument("--data", type=a_path, help="folder of the data set (default: results/data/<dataset>)")
    store.add_argument("--out", type=a_path, help="file (default: results/stores/<dataset>/<what it is>.lmdb)")
    store.set_defaults(command=_build_store)

    settings = commands.add_parser("settings", help="print all settings of a run, and where each comes from")
    settings.add_argument("run", metavar="PAPER/RUN", help="e.g. geiping2022/fb-clip")
    settings.add_argument("--scale", help="one of the configuration's scales (default: its own)")
    settings.add_argument("--configfile", nargs="+", default=[], help="files laid over config.yaml")
    settings.set_defaults(command=_settings)

    plan = commands.add_parser(
        "plan", help="runs, hours and disk of each table, and what is there, before anything runs"
    )
    plan.add_argument("--device", help="one of config/devices.json, or a part of its name (default: this machine's)")
    plan.add_argument("--configfile", nargs="+", default=[], help="files laid over config.yaml")
    plan.set_defaults(command=_plan)

    record = commands.add_parser("record", help="keep what finished runs measured in records")
    record.add_argument("runs", nargs="+", type=a_path, metavar="FOLDER", help="folders of finished seeds")
    record.add_argument("--measures", type=a_path, help="folder of their measures (default: the workflow's)")
    record.add_argument("--out", type=a_path, default=RECORDS)
    record.set_defaults(command=_record)

    failure = commands.add_parser("explain-failure", help="the last lines of the logs of jobs that failed")
    failure.add_argument("log", type=a_path, help="Snakemake's own log of the run")
    failure.set_defaults(command=_explain_failure)

    schema = commands.add_parser("schema", help="write config/schema/ and docs/settings.md again")
    schema.set_defaults(command=_schema)

    show = commands.add_parser("show", help="print the tables and claims of a scale, and where they lie")
    show.add_argument("scale", nargs="?", default="mini")
    show.set_defaults(command=_show)
    return parser


def _train(options) -> None:
    if (options.run is None) == (options.spec is None):
        raise UserError("train: give either PAPER/RUN or --spec")
    specs = _specs(options)
    seeds = [spec.seed for spec in specs]
    out = options.out or run_folder(specs[0].scale, specs[0].paper, specs[0].run) / batch_name(seeds)
    if options.out is None and batch_seeds(out.name) != seeds:
        raise UserError(f"train: --seed {' '.join(map(str, seeds))}: must be consecutive, or --out must be given")
    if options.wait_seconds:
        from whysgd.training.waiting import wait_for_others

        wait_for_others([out], options.wait_seconds)
    device, _gpu = _prepared_device(options)
    # Imports are made where they are needed: torch takes seconds, and a job of the mini scale not many more.
    from whysgd.training.loop import Options, train

    chosen = Options(device, options.checkpoint_seconds, options.engine, options.images_on, options.tensorboard == "on")
    train(specs, options.data, out, chosen, options.store, options.norms)


def _prepared_device(options):
    """The device to work on, and the lock of the GPU, to be kept as long as it is used."""
    from whysgd.training.device import prepare_device
    from whysgd.training.gpus import claim_gpu

    gpu = claim_gpu() if options.device != "cpu" else None
    device = prepare_device(options.device, options.threads)
    if gpu is not None and device.type == "cpu":
        gpu.release()  # There is one, but torch cannot use it: nobody need wait for it.
    return device, gpu


def _measure(options) -> None:
    try:
        settings = json.loads(options.options)
    except ValueError as error:
        raise UserError(f"measure: --options: not JSON ({error})") from None
    if not isinstance(settings, dict) or not all(isinstance(value, dict) for value in settings.values()):
        raise UserError("measure: --options: must be a mapping of measures to their options")
    names = list(MEASURES) if options.measures == ["all"] else options.measures
    # Not where the workflow puts its own, which have the options of the scale.
    out = options.out or options.run / "measures" / "all.json"
    device, _gpu = _prepared_device(options)
    from whysgd.measures.run import load_runs, measure_batch

    measure_batch(names, load_runs(options.run, options.data, device, options.images), out, settings)
    print(f"{out}: {', '.join(names)}")


def _landscape(options) -> None:
    if options.chunk >= options.of:
        raise UserError("landscape: --chunk must be below --of")
    device, _gpu = _prepared_device(options)
    from whysgd.measures.catalog import View
    from whysgd.measures.landscape_part import landscape_of
    from whysgd.measures.run import load_runs
    from whysgd.study.validation import checked

    try:
        view = checked(View, json.loads(options.options), lambda _: "landscape: --options")
    except json.JSONDecodeError as error:
        raise UserError(f"landscape: --options: not JSON ({error})") from None

    def loaded(folder, seed):
        seeds = None if seed is None else [seed]
        return next(load_runs(folder, options.data, device, options.images, seeds))

    run = loaded(options.run, options.seed)
    like = loaded(options.like, options.like_seed) if options.like else None
    out = options.out or Path(options.run, f"landscape_{options.kind}.csv")
    landscape_of(run, options.kind, options.points, (options.chunk, options.of), out, like, view)


def _specs(options) -> list[RunSpec]:
    seeds = list(dict.fromkeys(options.seed))
    if options.spec is not None:
        try:
            given = json.loads(options.spec)
            return [RunSpec.from_dict({**given, "seed": seed}) for seed in seeds]
        except (ValueError, TypeError) as error:
            raise UserError(f"train: --spec: {error}") from None
    from whysgd.study.config import load_config
    from whysgd.study.papers import scaled_spec

    config = load_config(options.configfile)
    paper, run = _named("train", options.run, config["papers"])
    return [scaled_spec(config, paper, run, seed) for seed in seeds]


def _named(command: str, name: str, papers: list[str]) -> tuple[str, str]:
    """The paper and the run that PAPER/RUN names."""
    from whysgd.study.papers import load_paper

    paper, _, run = name.partition("/")
    if paper not in papers:
        raise UserError(f"{command}: {name!r}: no such paper; allowed: {', '.join(papers)}{nearest(paper, papers)}")
    runs = load_paper(paper)["runs"]
    if run not in runs:
        raise UserError(f"{command}: {name!r}: no such run; allowed: {listed(runs)}{nearest(run, runs)}")
    return paper, run


def _settings(options) -> None:
    from whysgd.study.config import load_config
    from whysgd.study.origins import settings_text

    config = load_config(options.configfile, {"scale": options.scale} if options.scale else None)
    print(settings_text(config, *_named("settings", options.run, config["papers"])))


def _build_dataset(options) -> None:
    from whysgd.data.build import build_dataset
    from whysgd.study.config import load_config

    settings = {} if options.data_dir is None else {"data_dir": options.data_dir}
    if options.datasets is not None:
        try:
            settings["datasets"] = json.loads(options.datasets)
        except ValueError as error:
            raise UserError(f"build-dataset: --datasets: not JSON ({error})") from None
    config = load_config(options.configfile, settings)
    folder = options.out or dataset_folder(options.dataset)
    own = config["datasets"].get(options.dataset)
    manifest = build_dataset(options.dataset, own, Path(config["data_dir"]), folder)
    counts = f"{manifest['train_images']} training and {manifest['test_images']} test images"
    print(f"{folder}: {manifest['label']}, {counts} of {len(manifest['classes'])} classes")


def _build_store(options) -> None:
    from whysgd.data.build_store import build_store, write_description
    from whysgd.data.canonical import load_dataset

    if not is_name(options.dataset):
        raise UserError(f"build-store: {options.dataset!r}: {NEEDED}")
    plan = StoredCopies(
        copies=options.copies, crop_padding=options.crop_padding, flip=options.flip, seed=options.seed,
        clean_first=options.clean_first,
    )  # fmt: skip
    dataset = load_dataset(options.data or dataset_folder(options.dataset))
    path = options.out or store_file(options.dataset, plan.name)
    store = build_store(dataset, plan, path, progress=sys.stderr.isatty())
    write_description(store, path)
    print(f"{path}: {len(store):,} images of {dataset.manifest['label']}, {path.stat().st_size / 1e6:.1f} MB")


def _plan(options) -> None:
    from whysgd.study.config import load_config
    from whysgd.study.plan import plan_text

    print(plan_text(_to_train(load_config(options.configfile)), options.device))


def _to_train(config: dict) -> dict:
    """A configuration of training."""
    if config["from"] != "training":
        raise UserError("from = 'records': is for Snakemake alone; allowed here: training")
    return config


def _record(options) -> None:
    from whysgd.results.records import write_records

    written = write_records(options.runs, options.measures, options.out)
    size = sum(path.stat().st_size for path in written)
    print(f"{options.out}: {len(written)} written, {size / 1000:.1f} kB")


def _verify(options) -> int:
    device, _gpu = _prepared_device(options)
    from whysgd.results.verify import ANOTHER, COLUMNS, verify_records

    widths = (max(map(len, map(str, options.records))), 20, 20, 24, 24, 0)
    verdicts = []
    heads = {name: name for name in COLUMNS}
    for row in chain([heads], verify_records(options.records, options.data, options.store, device)):
        print(
            "  ".join(row[name].ljust(width) for name, width in zip(COLUMNS, widths, strict=True)).rstrip(), flush=True
        )
        verdicts.append(row["verdict"])
    return int(ANOTHER in verdicts)


def _explain_failure(options) -> None:
    from whysgd.results.failures import explained

    print(explained(options.log), flush=True)


def _schema(options) -> None:
    from whysgd.study.reference import files
    from whysgd.study.validation import ROOT

    for path, text in files().items():
        write_text(ROOT / path, text)
        print(path)


def _show(options) -> None:
    folder = Path("results", options.scale)
    # A paper's main table first.
    tables = sorted(folder.glob("tables/*.md"), key=lambda file: (not file.stem.endswith("_main"), file.name))
    claims = sorted(folder.glob("claims/*.md"))
    if not tables:
        raise UserError(f"{folder}/tables: no tables yet; run `snakemake --cores 2` first")
    for file in (*tables, *claims):
        print(f"\n{file.read_text(encoding='utf-8')}", flush=True)
    for name, pattern in (
        ("tables", "tables"),
        ("figures", "figures"),
        ("claims", "claims"),
        ("measures", "measures"),
        ("report", "index.html"),
    ):
        if (folder / pattern).exists():
            print(f"{name + ':':10}{folder / pattern}")


if __name__ == "__main__":
    sys.exit(main())
