"""`whysgd diff`: two runs side by side."""

from whysgd.commands._shared import add_command, add_config_flags, config_of, named

EXAMPLES = [
    "whysgd diff geiping2022/fb geiping2022/fb-clip",
    "whysgd diff geiping2022/sgd iyer2023/knee --scale paper",
]


def add(commands) -> None:
    """Add the command."""
    told = "the settings in which two runs differ, and the accuracies of both"
    diff = add_command(commands, "diff", _diff, told, EXAMPLES)
    diff.add_argument("runs", nargs=2, metavar="PAPER/RUN", help="e.g. geiping2022/fb geiping2022/fb-clip")
    add_config_flags(
        diff,
        seed="accuracies of these seeds (default: the configuration's, or all that are there)",
    )


def _diff(options) -> None:
    from whysgd.report.difference import difference_text

    runs = [named("diff", name) for name in options.runs]
    print(difference_text(config_of(options), runs))
