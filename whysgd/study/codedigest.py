"""A digest of the code that a rule really runs.

Snakemake sees the files it starts, not the package modules these import. So each rule carries
`code_digest(...)` among its params: a sha256 over the syntax trees of its entry points and of
every module of this package they import, directly or through others. Comments, docstrings and
layout are not in a syntax tree without docstrings, so editing them changes nothing.
"""

import ast
import hashlib
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "whysgd"


def code_digest(*entries: str) -> str:
    """Digest of the entry points and everything of the package they import.

    Args:
        entries: module names (`whysgd.training.loop`) or files relative to the root of the
            project (`workflow_scripts/plot_figure.py`); a file that is not Python counts as it is.

    Raises:
        FileNotFoundError: an entry is neither a module of the package nor a file.
    """
    found: dict[str, str] = {}
    waiting = [_locate(entry) for entry in entries]
    while waiting:
        path = waiting.pop()
        name = str(path.relative_to(ROOT))
        if name not in found:
            found[name], imported = _read(path)
            waiting.extend(imported)
    listing = "\n".join(f"{name} {found[name]}" for name in sorted(found))
    return hashlib.sha256(listing.encode()).hexdigest()[:16]


def _locate(entry: str) -> Path:
    path = ROOT / entry if "/" in entry else _module_file(entry)
    if path is None or not path.is_file():
        raise FileNotFoundError(f"{entry}: neither a module of {PACKAGE} nor a file of the project")
    return path


def _module_file(module: str) -> Path | None:
    base = ROOT.joinpath(*module.split("."))
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


@cache
def _read(path: Path) -> tuple[str, tuple[Path, ...]]:
    if path.suffix != ".py":
        return hashlib.sha256(path.read_bytes()).hexdigest(), ()
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    imported = tuple(file for module in _imports(tree, path) if (file := _module_file(module)))
    _drop_docstrings(tree)
    return hashlib.sha256(repr(_plain(tree)).encode()).hexdigest(), imported


def _plain(node):
    """The tree as nested tuples, without positions and empty fields.

    Unlike `ast.dump` this reads the same on every Python version, because a field that a
    version added is empty for code that does not use it.
    """
    if isinstance(node, list):
        return tuple(_plain(item) for item in node)
    if not isinstance(node, ast.AST):
        return node
    fields = ((name, _plain(value)) for name, value in ast.iter_fields(node))
    return type(node).__name__, *((name, value) for name, value in fields if value not in (None, ()))


def _imports(tree: ast.AST, path: Path) -> set[str]:
    """Modules of the package that a file imports, at any depth of nesting.

    The `__init__` of a parent package counts only when it is imported itself: ours hold lazy
    names, and counting them would tie every rule to everything.
    """
    modules: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise SyntaxError(f"{path}: relative imports are not used in this project")
            if node.module:
                for alias in node.names:
                    member = f"{node.module}.{alias.name}"
                    modules.add(member if _module_file(member) else node.module)
    return {module for module in modules if module.split(".")[0] == PACKAGE}


def _drop_docstrings(tree: ast.AST) -> None:
    owners = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, owners) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
