"""`whysgd plan` and `whysgd settings`: what would be run, before anything is."""

from whysgd.commands._shared import add_command, add_config_flags, config_of, named
from whysgd.errors import UserError

PLANS = [
    "whysgd plan",
    "whysgd plan --configfile config/paper.yaml --device epyc",
    'whysgd plan --scale midi --seed 0 1 2 --config "papers=[iyer2023]"',
]
SETTINGS = [
    "whysgd settings geiping2022/fb-clip",
    "whysgd settings geiping2022/fb-clip --scale paper",
]


def add(commands) -> None:
    """Add the commands."""
    told = "runs, hours and disk of each table, and what is there, before anything runs"
    plan = add_command(commands, "plan", _plan, told, PLANS)
    plan.add_argument("--device", help="one of config/devices.json, or a part of its name (default: this machine's)")
    add_config_flags(plan)

    told = "print all settings of a run, and those that differ at the scale paper"
    settings = add_command(commands, "settings", _settings, told, SETTINGS)
    settings.add_argument("run", metavar="PAPER/RUN", help="e.g. geiping2022/fb-clip")
    add_config_flags(settings, seed=None)


def _plan(options) -> None:
    from whysgd.study.plan import plan_text

    config = config_of(options)
    if config["from"] != "training":
        raise UserError("from = 'records': is for Snakemake alone; allowed here: training")
    print(plan_text(config, options.device))


def _settings(options) -> None:
    from whysgd.study.changes import settings_text

    print(settings_text(config_of(options), *named("settings", options.run)))
