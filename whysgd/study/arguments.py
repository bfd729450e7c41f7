"""Arguments of the command line, refused in one line where they cannot be."""

import argparse
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from whysgd.errors import UserError, nearest
from whysgd.study.validation import rule


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
