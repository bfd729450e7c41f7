"""What commands share: their parser and types of arguments, flags of configuration and device, and names of runs."""

import argparse
import json
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from whysgd.errors import UserError, nearest
from whysgd.study.settings import Index, Threads
from whysgd.study.validation import check_known, rule

SCALE = "one of the configuration's scales, with its file of config/ if there is one (default: its own)"
SEEDS = "these seeds (default: the scale's)"


class Parser(argparse.ArgumentParser):
    """Refuses wrong arguments in one line, as all errors are told."""

    def error(self, message: str):
        # What takes several values takes the arguments behind it, too.
        missing = message.startswith("the following arguments are required")
        several = missing and any(action.option_strings and action.nargs == "+" for action in self._actions)
        hint = "; they stand before options that take several values" if several else ""
        raise UserError(f"{self.prog.rpartition(' ')[2]}: {message}{hint}")

    def _check_value(self, action, value):
        """Refuse what is none of the choices, and name the nearest one; argparse asks this of every value."""
        if action.choices is not None and value not in action.choices:
            name = "/".join(action.option_strings) or action.metavar or action.dest
            allowed = f"allowed: {', '.join(action.choices)}{nearest(value, action.choices)}"
            self.error(f"{name} = {value!r}: {allowed}")

    def parse(self, arguments: list[str] | None = None) -> argparse.Namespace:
        """Return the parsed arguments of a command, whose own parser is their `parser`."""
        options, unknown = self.parse_known_args(arguments)
        if unknown:
            known = [text for action in options.parser._actions for text in action.option_strings]
            options.parser.error(f"{unknown[0]}: no such argument{nearest(unknown[0], known)}")
        return options


def is_a(kind) -> Callable[[str], float]:
    """Return the reader of an argument that must be a number of a kind of `whysgd.study.settings`."""

    def read(text: str):
        for number in (int, float):
            with suppress(ValueError):
                text = number(text)
                break
        try:
            return TypeAdapter(kind).validate_python(text)
        except ValidationError as error:
            raise argparse.ArgumentTypeError(f"{text}: {rule(error.errors()[0])}") from None

    return read


def a_path(text: str) -> Path:
    """Read an argument that is a path."""
    return Path(text).expanduser()


def a_json(text: str):
    """Read an argument that is JSON."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not JSON ({error})") from None


def a_setting(text: str) -> tuple:
    """Read an argument KEY=VALUE; the value is as Snakemake has it."""
    from whysgd.study.config import retyped

    key, equals, value = text.partition("=")
    if not equals or not re.fullmatch(r"[A-Za-z_][\w-]*", key):
        raise argparse.ArgumentTypeError(f"{text!r}: must be KEY=VALUE; give it after all other arguments")
    return key, retyped(value) if value else None


def add_command(commands, name: str, work: Callable, told: str, examples: Iterable[str]) -> Parser:
    """Add a command to the subparsers of the command line and return its parser.

    `work` takes the parsed options and returns an exit code, or None for 0. `told` is a line that says what the command
    does; its help ends with `examples`.
    """
    shown = "\n".join(f"  {line}" for line in examples)
    parser = commands.add_parser(
        name, help=told, description=told[:1].upper() + told[1:] + ".", epilog=f"examples:\n{shown}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.set_defaults(command=work, parser=parser)
    return parser


def add_config_flags(parser: Parser, scale: str | None = SCALE, seed: str | None = SEEDS) -> None:
    """Add --configfile and --config, as Snakemake has them, and --scale and --seed, unless their help is None."""
    files = "files laid over config.yaml, as snakemake takes them"
    parser.add_argument("--configfile", nargs="+", action="extend", default=[], metavar="FILE", help=files)
    single = "single keys of the configuration, as snakemake takes them: seeds=[0,1]"
    parser.add_argument(
        "--config", type=a_setting, nargs="+", action="extend", default=[], metavar="KEY=VALUE", help=single
    )
    if scale:
        parser.add_argument("--scale", help=scale)
    if seed:
        parser.add_argument("--seed", type=is_a(Index), nargs="+", help=seed)


def config_of(options, **more) -> dict:
    """Return the configuration that the flags of `add_config_flags`, and these keys, ask for.

    With a scale comes the file that `config/` has for it, with the papers to run and the number of evaluations.
    """
    from whysgd.study.config import OVERLAYS, load_config

    files, settings = list(options.configfile), dict(options.config) | more
    if scale := getattr(options, "scale", None):
        settings["scale"] = scale
        files = [own for own in [OVERLAYS / f"{scale}.yaml"] if own.is_file()] + files
    if getattr(options, "seed", None):
        settings["seeds"] = list(dict.fromkeys(options.seed))
    return load_config(files, settings)


def named(command: str, name: str, part: str = "run") -> tuple[str, str]:
    """Return the paper and the run (or table) that PAPER/RUN names; refuse what there is not."""
    from whysgd.study.config import paper_names
    from whysgd.study.papers import load_paper

    paper, slash, own = name.partition("/")
    if not slash and paper not in paper_names():
        inner = {key: f"{one}/{key}" for one in paper_names() for key in load_paper(one)[f"{part}s"]}
        close = get_close_matches(name, inner, 1)
        offered = f"; did you mean {inner[close[0]]}?" if close else ""
        raise UserError(f"{command}: {name!r}: must be PAPER/{part.upper()}{offered}")
    known = load_paper(known_paper(command, name))[f"{part}s"]
    check_known(own, known, f"{command}: {name!r}: no such {part}")
    return paper, own


def known_paper(command: str, name: str) -> str:
    """Return the paper of PAPER or PAPER/RUN; refuse what there is not."""
    from whysgd.study.config import paper_names

    paper = name.partition("/")[0]
    check_known(paper, paper_names(), f"{command}: {name!r}: no such paper")
    return paper


def add_device_flags(parser: Parser) -> None:
    """Add --device and --threads."""
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--threads", type=is_a(Threads), default=1)


def prepared_device(options):
    """Return the device to work on, and the lock of the GPU, to be kept as long as it is used."""
    from whysgd.training.device import prepare_device
    from whysgd.training.gpus import claim_gpu

    gpu = claim_gpu() if options.device != "cpu" else None
    device = prepare_device(options.device, options.threads)
    if gpu is not None and device.type == "cpu":
        gpu.release()  # There is one, but torch cannot use it: nobody need wait for it.
    return device, gpu
