"""Arguments of the command line, refused in one line where they cannot be."""

import argparse
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from whysgd.errors import UserError
from whysgd.study.validation import rule


class Parser(argparse.ArgumentParser):
    """Refuses wrong arguments in one line, as all errors are told."""

    def error(self, message: str):
        raise UserError(f"{self.prog.rpartition(' ')[2]}: {message}")


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
