"""The one exception that stands for a mistake a user can make and mend."""

from collections.abc import Iterable


class UserError(Exception):
    """What is wrong, where (file and key), and what is allowed: one line, no traceback.

    The command line and the Snakefile print it as it is and exit with code 1.
    """


def listed(names: Iterable[str], most: int = 60) -> str:
    """Names for an error's line, the first of them if they are many."""
    names = list(names)
    return ", ".join(names[:most]) + (f", … ({len(names)} in all)" if len(names) > most else "")
