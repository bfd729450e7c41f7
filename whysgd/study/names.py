"""Names that become parts of paths: of scales, data sets, papers, tables, rows and runs.

They are the same on every file system, stay in their folder, and mean nothing to a shell.
"""

import re
from collections.abc import Iterable

# A file's name may have 255 letters, and some have two of these.
LONGEST = 80
NEEDED = f"must be a name: letters, digits, '-', '_' and '.', not beginning with a sign, at most {LONGEST}"
# Folders of results/ that are not those of a scale.
TAKEN = ("data", "stores", "records", "recorded", "benchmarks")
_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_.-]{{0,{LONGEST - 1}}}")


def is_name(value) -> bool:
    """Return whether it can be a part of a path."""
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def is_dotted(value) -> bool:
    """Return whether it is a dotted path such as my_package.my_module:my_function."""
    return isinstance(value, str) and re.fullmatch(r"[A-Za-z_]\w*(\.\w+)*:[A-Za-z_]\w*", value) is not None


def same_but_for_case(names: Iterable[str]) -> tuple[str, str] | None:
    """Return two names that are one file where letters' case does not count, as on a Mac; None if there are none."""
    seen: dict[str, str] = {}
    for name in names:
        if (other := seen.setdefault(name.lower(), name)) != name:
            return other, name
    return None
