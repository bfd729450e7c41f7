"""The commands. Each file of this folder adds its own, so adding a command is adding a file with a function `add`."""

from importlib import import_module
from pathlib import Path


def add_all(commands) -> None:
    """Add the commands of all files to the parser's subparsers."""
    for file in sorted(Path(__file__).parent.glob("[!_]*.py")):
        import_module(f"{__name__}.{file.stem}").add(commands)
