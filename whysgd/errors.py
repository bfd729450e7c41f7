"""The exceptions that are a line for the user, not a bug: a mistake that can be mended, and a job that was stopped."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """What is wrong, where (file and key), and what is allowed: one line, no traceback.

    The command line and the Snakefile print it as it is and exit with code 1.
    """


class StopSignal(Exception):  # noqa: N818, not an error
    """A signal asked this job to end, and it did so in good order; `number` is the signal's."""

    def __init__(self, message: str, number: int):
        super().__init__(message)
        self.number = number


def listed(names: Iterable[str], most: int = 20) -> str:
    """Names for an error's line, the first of them if they are many."""
    names = list(names)
    return ", ".join(names[:most]) + (f", … ({len(names)} in all)" if len(names) > most else "")


def nearest(name, known: Iterable[str]) -> str:
    """Return the end of an error's line that offers the known name most like this one, or nothing."""
    close = difflib.get_close_matches(str(name), list(known), 1)
    return f"; did you mean {close[0]}?" if close else ""
