"""The command line: `whysgd COMMAND`, or `python -m whysgd COMMAND`. What the workflow does also runs without it."""

import os
import signal
import sys
from contextlib import suppress

from whysgd import __version__
from whysgd.errors import StopSignal, UserError
from whysgd.training.stopping import ASKING


def main(arguments: list[str] | None = None) -> int:
    """Run one command; a user's error is one line on stderr and exit code 1."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):  # A stream may be closed, or not one of a file.
            stream.reconfigure(errors="replace")  # An 8-bit locale lacks half of our signs.
    try:
        options = command_line().parse(arguments)
        return options.command(options) or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "whysgd":
            raise
        print(f"error: needs {error.name}, which is not installed: pip install 'whysgd[pipeline]'", file=sys.stderr)
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


def run() -> None:
    """Run one command and leave.

    Leaving takes torch most of a second. A signal that comes then must not make a failure of what is written and whole,
    which Snakemake would remove.
    """
    if (code := main()) == 0:
        for number in ASKING:
            signal.signal(number, signal.SIG_IGN)
    sys.exit(code)


def command_line():
    """Return the parser of all commands."""
    # Importing these takes a moment, in which Ctrl-C must be as quiet as later.
    from whysgd.commands import add_all
    from whysgd.commands._shared import Parser

    parser = Parser(prog="whysgd", description=__doc__, epilog="`whysgd COMMAND --help` has examples of each.")
    parser.add_argument("--version", action="version", version=f"whysgd {__version__}")
    add_all(parser.add_subparsers(required=True, metavar="COMMAND"))
    return parser


if __name__ == "__main__":
    run()
