"""`whysgd measure` and `whysgd landscape`: what is measured of finished runs."""

from whysgd.commands._shared import a_json, a_path, add_command, add_device_flags, is_a, prepared_device
from whysgd.errors import UserError
from whysgd.measures.catalog import MEASURES
from whysgd.study.names import is_dotted
from whysgd.study.settings import Count, Few, Index, Points
from whysgd.study.validation import check_known

RUN = "--run results/mini/runs/geiping2022/sgd/seeds-0-5"
MEASURING = [
    f"whysgd measure all {RUN}",
    f"whysgd measure keskar hessian {RUN} --seed 0 1 --images 256 --out sharpness.json",
    f"""whysgd measure keskar {RUN} --options '{{"keskar": {{"steps": 200}}}}'""",
]
LANDSCAPES = [
    f"whysgd landscape line {RUN}",
    f"""whysgd landscape plane {RUN} --points 21 --options '{{"alpha": [-0.5, 0.5]}}'""",
]


def add(commands) -> None:
    """Add the commands."""
    told = "take measures of a finished run: sharpness, flatness, noise, ..."
    measure = add_command(commands, "measure", _measure, told, MEASURING)
    measure.add_argument("measures", nargs="+", metavar="MEASURE", help=f"{', '.join(MEASURES)}, or all")
    measure.add_argument("--options", type=a_json, default={}, help="of each measure, as JSON")
    measure.add_argument(
        "--out", type=a_path, help="file for the results (default: measures/all.json in the run's folder)"
    )
    told = "losses around a finished run, along random directions"
    landscape = add_command(commands, "landscape", _landscape, told, LANDSCAPES)
    landscape.add_argument("kind", choices=["line", "plane"], help="along one direction, or along two")
    landscape.add_argument("--points", type=is_a(Points), default=51, help="of each axis")
    view = 'as JSON, of the page of settings: {"alpha": [-0.5, 0.5]}'
    landscape.add_argument("--options", type=a_json, default={}, help=view)
    landscape.add_argument("--chunk", type=is_a(Index), default=0, help="which of the parts, from 0")
    landscape.add_argument("--of", type=is_a(Few), default=1, help="parts that the points are split into")
    landscape.add_argument("--out", type=a_path, help="file (default: landscape_KIND.csv in the run's folder)")
    for command in (measure, landscape):
        command.add_argument("--run", type=a_path, required=True, help="folder of finished seeds of a run")
        command.add_argument("--seed", type=is_a(Index), nargs="+", help="which of the folder's (default: all)")
        command.add_argument("--data", type=a_path, help="folder of the data set (default: results/data/<dataset>)")
        command.add_argument("--images", type=is_a(Count), help="only so many of the training images")
        add_device_flags(command)


def _measure(options) -> None:
    settings = options.options
    if not isinstance(settings, dict) or not all(isinstance(value, dict) for value in settings.values()):
        raise UserError("measure: --options: must be a mapping of measures to their options")
    for name in options.measures:
        if not is_dotted(name):
            check_known(name, [*MEASURES, "all"], f"measure = {name!r}: no such measure")
    names = list(dict.fromkeys(one for name in options.measures for one in (MEASURES if name == "all" else [name])))
    # Not where the workflow puts its own, which have the options of the scale.
    out = options.out or options.run / "measures" / "all.json"
    device, _gpu = prepared_device(options)
    from whysgd.measures.run import load_runs, measure_batch

    measure_batch(names, load_runs(options.run, options.data, device, options.images, options.seed), out, settings)
    print(f"{out}: {', '.join(names)}")


def _landscape(options) -> None:
    if options.chunk >= options.of:
        raise UserError("landscape: --chunk must be below --of")
    device, _gpu = prepared_device(options)
    from whysgd.measures.catalog import View
    from whysgd.measures.landscape_part import landscape_of
    from whysgd.measures.run import load_runs
    from whysgd.study.validation import checked

    view = checked(View, options.options, lambda _: "landscape: --options")
    runs = load_runs(options.run, options.data, device, options.images, options.seed)
    out = options.out or options.run / f"landscape_{options.kind}.csv"
    landscape_of(runs, options.kind, options.points, (options.chunk, options.of), out, view)
