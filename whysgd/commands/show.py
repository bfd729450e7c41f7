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
    from whysgd.report.shown import paper_text, scales_with_records, scales_with_results, summary_text, table_text
    from whysgd.study.config import load_config

    if options.what is None:
        text = summary_text(_scale(options))
    elif "/" in options.what:
        paper, table = named("show", options.what, "table")
        text = table_text(_scale(options), paper, table)
    else:
        scales = load_config(options.configfile)["scales"]
        if options.what in [*scales, *scales_with_results(), *scales_with_records()]:
            raise UserError(f"show: {options.what!r} is a scale: give it as --scale {options.what}")
        paper = known_paper("show", options.what)
        text = paper_text(_scale(options), paper)
    print(text, flush=True)


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
    raise UserError(f"show: nothing was made at scale {wanted}: run `{_training(options, wanted)}`{recording}")


def _training(options, scale: str) -> str:
    """Return the command that makes what is missing."""
    overlay = Path("config", f"{scale}.yaml")
    files = options.configfile or ([str(overlay)] if overlay.is_file() else [])
    return " ".join(["snakemake --cores 2", *(["--configfile", *map(quote, files)] if files else [])])
