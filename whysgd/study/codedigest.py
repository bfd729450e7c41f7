"""A digest of the code that a job really runs.

Snakemake sees the files it starts, not the package modules these import. So each rule carries `code_digest(...)` among
its params: a sha256 over the syntax trees of its entry points, of every module of this package they import, directly
or through others, and of the files of the penalty, network, … that the job uses. These are found by name when the job
runs, so nothing imports them, and those that a job does not use do not count.

What changes no number does not count either: comments, docstrings and layout, the texts of errors, the fields of typed
settings (their values are in the specification), and what a table calls things.
"""

import ast
import hashlib
from functools import cache
from pathlib import Path

from whysgd.study import registry
from whysgd.study.validation import ROOT

PACKAGE = "whysgd"
# Modules that only find and check what a job is given, or write down what it found.
UNCOUNTED = tuple(
    f"{PACKAGE}/{name}.py"
    for name in (
        "__init__",
        "errors",
        "results/machine",
        "results/metrics",
        "results/paths",
        "study/codedigest",
        "study/fields",
        "study/names",
        "study/registry",
        "study/settings",
        "study/validation",
    )
)
# Constants that say what files have and how tables call it.
DECLARED = ("LABEL", "NETWORKS", "PATTERN", "QUANTITIES", "VARIANTS", "WRITTEN")


@cache
def code_digest(*entries: str, using: tuple[tuple[str, str], ...] = ()) -> str:
    """Return the digest of the entry points, of everything of the package they import, and of what the job uses.

    Args:
        entries: module names (`whysgd.training.loop`) or files of the project (`workflow_scripts/plot_figure.py`); one
            that is not Python counts as it is, and one that does not exist raises FileNotFoundError.
        using: (kind, name) of each penalty, network, … that is used; see `RunSpec.parts`.
    """
    waiting, listing = [_locate(entry) for entry in entries], []
    for kind, name in using:
        file = registry.file_of(kind, name)
        # A class of torch is named here; its version is in the metrics. A network's sizes stand in its family's file.
        listing.append(f"{kind} {name} {registry.network(name) if kind == 'network' else ''}")
        waiting += [file] if file else []
    found = set()
    while waiting:
        if (path := waiting.pop()) not in found and (place := _place(path)) not in UNCOUNTED:
            found.add(path)
            digest, imported = read(path)
            listing.append(f"{place} {digest}")
            waiting += imported
    return hashlib.sha256("\n".join(sorted(listing)).encode()).hexdigest()[:16]


def training_code(spec) -> str:
    """Return the digest of the code that trains a run."""
    return code_digest("whysgd.training.loop", "whysgd.study.schedule", using=spec.parts)


def measuring_code(spec, *measures: str) -> str:
    """Return the digest of the code that takes these measures of a run."""
    taken = (("measure", name) for name in measures)
    return code_digest("whysgd.measures.run", using=(("network", spec.model), *taken))


def landscape_code(spec) -> str:
    """Return the digest of the code that computes a loss landscape of a run."""
    return code_digest("whysgd.measures.landscape_part", "whysgd.measures.run", using=(("network", spec.model),))


@cache
def _place(path: Path) -> str:
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name


def _locate(entry: str) -> Path:
    path = ROOT / entry if "/" in entry else _module_file(entry)
    if path is None or not path.is_file():
        raise FileNotFoundError(f"{entry}: neither a module of {PACKAGE} nor a file of the project")
    return path


def _module_file(module: str) -> Path | None:
    base = ROOT.joinpath(*module.split("."))
    return next(filter(Path.is_file, (base.with_suffix(".py"), base / "__init__.py")), None)


@cache
def read(path: Path) -> tuple[str, tuple[Path, ...]]:
    """Return the digest of a file alone, and the files of the package that it imports."""
    if path.suffix != ".py":
        return hashlib.sha256(path.read_bytes()).hexdigest(), ()
    tree = _Bare().visit(ast.parse(path.read_text(encoding="utf-8"), str(path)))
    imported = tuple(file for module in sorted(_imports(tree)) if (file := _module_file(module)))
    return hashlib.sha256(repr(_plain(tree)).encode()).hexdigest(), imported


class _Bare(ast.NodeTransformer):
    """Take from a syntax tree what changes no number; what is left need not be a program."""

    def visit_Expr(self, node):
        return None if isinstance(node.value, ast.Constant) else self.generic_visit(node)

    def visit_Assign(self, node):
        declares = not node.col_offset and all(_last(target) in DECLARED for target in node.targets)
        return None if declares else self.generic_visit(node)

    def visit_ClassDef(self, node):
        if any(_last(base).endswith(("Settings", "BaseModel")) for base in node.bases):
            node.body = [one for one in node.body if not _checks(one)]
        return self.generic_visit(node)

    def visit_Raise(self, node):
        return _NoTexts().visit(node)


class _NoTexts(ast.NodeTransformer):
    """Take the texts from an error."""

    def visit_JoinedStr(self, node):
        return ast.Constant("")

    def visit_Constant(self, node):
        return ast.Constant("") if isinstance(node.value, str) else node


def _imports(tree: ast.AST) -> set[str]:
    """Return the modules of the package that a file imports, at any depth of nesting.

    The `__init__` of a parent package counts only when it is imported itself: ours hold lazy names, and counting them
    would tie every rule to everything. Relative imports are those of modules from elsewhere: ruff bans them here.
    """
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            members = (f"{node.module}.{alias.name}" for alias in node.names)
            found |= {member if _module_file(member) else node.module for member in members}
    return {module for module in found if module.split(".")[0] == PACKAGE}


def _last(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _checks(node: ast.stmt) -> bool:
    """Return whether a statement in a class of typed settings declares or checks a field."""
    if isinstance(node, ast.FunctionDef):
        return any("validator" in ast.dump(decorator) for decorator in node.decorator_list)
    return isinstance(node, ast.AnnAssign) or (
        isinstance(node, ast.Assign) and _last(node.targets[0]) == "model_config"
    )


def _plain(node):
    """Return the tree as nested tuples, without positions and empty fields.

    Unlike `ast.dump` this reads the same on every Python version, because a field that a version added is empty for
    code that does not use it.
    """
    if isinstance(node, list):
        return tuple(_plain(item) for item in node)
    if not isinstance(node, ast.AST):
        return node
    fields = ((name, _plain(value)) for name, value in ast.iter_fields(node))
    return type(node).__name__, *((name, value) for name, value in fields if value not in (None, ()))
