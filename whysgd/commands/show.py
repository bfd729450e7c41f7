"""`whysgd show` and `whysgd diff`: what was found, at the end of a run and later."""

from pathlib import Path
from shlex import quote

from whysgd.commands._shared import add_command, add_config_flags, config_of, known_paper, named
from whysgd.errors import UserError, nearest

SHOWING = [
    "whysgd show",
    "whysgd show geiping2022 --scale small",
    "whysgd show geiping2022/main --config from=records",
]
DIFFERENCES = [
    "whysgd diff geiping2022/fb geiping2022/fb-clip",
    "whysgd diff geiping2022/sgd iyer2023/knee --scale paper",
]


def add(commands) -> None:
    """Add the commands."""
    told = "print the summary of a scale, or a paper's tables and claims, or one table"
    show = add_command(commands, "show", _show, told, SHOWING)
    show.add_argument("what", nargs="?", metavar="PAPER[/TABLE]", help="default: the summary")
    add_config_flags(show, scale="whose results (default: the configuration's)", seed=None)

    told = "the settings in which two runs differ, and the accuracies of both"
    diff = add_command(commands, "diff", _diff, told, DIFFERENCES)
    diff.add_argument("runs", nargs=2, metavar="PAPER/RUN", help="e.g. geiping2022/fb geiping2022/fb-clip")
    add_config_flags(diff, seed="accuracies of these seeds (default: the configuration's, or all that are there)")


def _diff(options) -> None:
    from whysgd.report.difference import difference_text

    runs = [named("diff", name) for name in options.runs]
    print(difference_text(config_of(options), runs))


def _show(options) -> None:
    from whysgd.report.shown import made_text, scales_with_records, scales_with_results, summary_text
    from whysgd.study.config import load_config

    if (what := options.what) is None:
        print(summary_text(_scale(options)), flush=True)
        return
    if "/" in what:
        named("show", what, "table")
    elif what in [*load_config(options.configfile)["scales"], *scales_with_results(), *scales_with_records()]:
        raise UserError(f"show: {what!r} is a scale: give it as --scale {what}")
    else:
        known_paper("show", what)
    print(made_text(_scale(options), what), flush=True)


def _scale(options) -> str:
    """Return the scale whose results are shown: those of training, or else those made from records.

    Raises:
        UserError: there is no such scale, or nothing was made at it.
    """
    from whysgd.report.shown import scales_with_records, scales_with_results

    wanted, options.scale = options.scale, None  # A scale that another file describes may have results, too.
    config, found, records = config_of(options), scales_with_results(), scales_with_records()
    wanted = wanted or config["scale"]
    known = list(dict.fromkeys([*config["scales"], *found, *records]))
    if wanted not in known:
        raise UserError(f"show: scale {wanted!r}: allowed: {', '.join(known)}{nearest(wanted, known)}")
    recorded = f"recorded/{wanted}"
    places = [recorded] if config["from"] == "records" else [wanted, recorded]
    if made := [place for place in places if place in found]:
        return made[0]
    kept = ", ".join(f"{scale} ({count} runs)" for scale, count in records.items())
    recording = f"; or, for what records say, `make records` and --scale: {kept}" if kept else ""
    overlay = Path("config", f"{wanted}.yaml")
    files = options.configfile or ([str(overlay)] if overlay.is_file() else [])
    command = " ".join(["snakemake --cores 2", *(["--configfile"] if files else []), *map(quote, files)])
    raise UserError(f"show: nothing was made at scale {wanted}: run `{command}`{recording}")
