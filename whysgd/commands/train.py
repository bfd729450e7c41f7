"""`whysgd train`."""

from whysgd.commands import _shared as shared
from whysgd.errors import UserError
from whysgd.results.paths import batch_name, batch_seeds, run_folder
from whysgd.study.settings import NotNegative, Positive

EXAMPLES = [
    "whysgd train geiping2022/fb-clip --seed 7",
    "whysgd train geiping2022/sgd --seed 0 1 2 --scale midi --out my_folder",
    'whysgd train geiping2022/sgd --config "precision=fp32" evaluations=5',
]


def add(commands) -> None:
    """Add the command."""
    train = shared.add_command(commands, "train", _train, "train seeds of one run, a row of a paper's table", EXAMPLES)
    train.add_argument("run", nargs="?", metavar="PAPER/RUN", help="e.g. geiping2022/fb-clip")
    train.add_argument("--spec", type=shared.a_json, help="instead of PAPER/RUN: all settings but the seed, as JSON")
    shared.add_config_flags(train, seed="one or more, trained in one process (default: 0)")
    train.add_argument("--data", type=shared.a_path, help="folder of the data set (default: the workflow's)")
    train.add_argument("--store", type=shared.a_path, help="stored copies, for runs on such (default: the workflow's)")
    train.add_argument(
        "--norms", type=shared.a_path, nargs="+", default=[], help="logs of the run whose gradient norms are grafted"
    )
    train.add_argument("--out", type=shared.a_path, help="folder of results (default: where the workflow puts them)")
    train.add_argument("--engine", choices=["auto", "eager", "compiled"], default="auto")
    train.add_argument("--images-on", choices=["auto", "device", "host"], default="auto")
    train.add_argument("--checkpoint-seconds", type=shared.is_a(Positive), default=30.0)
    train.add_argument(
        "--tensorboard", nargs="?", choices=["on", "off"], default="off", const="on",
        help="write the histories as TensorBoard's events, too, into the folder of the results",
    )  # fmt: skip
    waited = "for another process in the same folder, to end"
    train.add_argument("--wait-seconds", type=shared.is_a(NotNegative), default=0.0, help=waited)
    shared.add_device_flags(train)


def _train(options) -> None:
    if (options.run is None) == (options.spec is None):
        raise UserError("train: give either PAPER/RUN, before options that take several values, or --spec")
    specs = _specs(options, list(dict.fromkeys(options.seed or [0])))
    seeds = [spec.seed for spec in specs]
    out = options.out or run_folder(specs[0].scale, specs[0].paper, specs[0].run) / batch_name(seeds)
    if options.out is None and batch_seeds(out.name) != seeds:
        raise UserError(f"train: --seed {' '.join(map(str, seeds))}: must be consecutive, or --out must be given")
    if options.wait_seconds:
        from whysgd.training.waiting import wait_for_others

        wait_for_others([out], options.wait_seconds)
    device, _gpu = shared.prepared_device(options)
    # Imports are made where they are needed: torch takes seconds, and a job of the mini scale not many more.
    from whysgd.training.loop import Options, train

    chosen = Options(device, options.checkpoint_seconds, options.engine, options.images_on, options.tensorboard == "on")
    train(specs, options.data, out, chosen, options.store, options.norms)


def _specs(options, seeds: list[int]) -> list:
    if options.spec is not None:
        if options.configfile or options.config or options.scale:
            raise UserError("train: --spec: says all settings; --configfile, --config and --scale belong to PAPER/RUN")
        from whysgd.study.spec import RunSpec

        try:
            return [RunSpec.from_dict({**options.spec, "seed": seed}) for seed in seeds]
        except (ValueError, TypeError) as error:
            raise UserError(f"train: --spec: {error}") from None
    from whysgd.study.papers import scaled_spec

    config = shared.config_of(options)
    paper, run = shared.named("train", options.run)
    return [scaled_spec(config, paper, run, seed) for seed in seeds]
