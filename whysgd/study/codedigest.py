"""A digest of the code that a job really runs.

Snakemake sees the files it starts, not the package modules these import. So each rule carries `code_digest(...)` among
its params: a sha256 over the syntax trees of its entry points, of every module of this package they import, directly
or through others, and of the files of the penalty, network, … that the job uses. These are found by name when the job
runs, so nothing imports them, and those that a job does not use do not count.

What changes no number does not count either: comments, docstrings and layout, type annotations, the texts of errors,
the fields of typed settings (their values are in the specification), and what a table calls things.
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
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


@cache
def read(path: Path) -> tuple[str, tuple[Path, ...]]:
    """Return the digest of a file alone, and the files of the package that it imports."""
    if path.suffix != ".py":
        return hashlib.sha256(path.read_bytes()).hexdigest(), ()
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    annotated = _names(tree)
    tree = _Bare().visit(tree)
    imports = _Imports(unused=annotated - _names(tree))
    tree = imports.visit(tree)
    imported = tuple(file for module in sorted(imports.modules) if (file := _module_file(module)))
    return hashlib.sha256(repr(_plain(tree)).encode()).hexdigest(), imported


def _names(tree: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


class _Bare(ast.NodeTransformer):
    """Take from a syntax tree what changes no number."""

    def _body(self, node):
        """Drop the docstring of a module, class or function, and visit the rest."""
        if ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
        self.generic_visit(node)
        node.body = node.body or [ast.Pass()]
        return node

    def visit_Module(self, node):
        node.body = [one for one in node.body if not _declares(one)]
        return self._body(node)

    def visit_ClassDef(self, node):
        if any(_last(base).endswith(("Settings", "BaseModel")) for base in node.bases):
            node.body = [one for one in node.body if not _checks(one)]
        return self._body(node)

    def visit_FunctionDef(self, node):
        node.returns = None
        for argument in ast.walk(node.args):
            if isinstance(argument, ast.arg):
                argument.annotation = None
        return self._body(node)

    def visit_AnnAssign(self, node):
        # In a dataclass the name of a field counts, its type does not.
        node.annotation = ast.Constant(None)
        return self.generic_visit(node)

    def visit_Raise(self, node):
        return _NoTexts().visit(node)

    def visit_If(self, node):
        return None if _last(node.test) == "TYPE_CHECKING" else self.generic_visit(node)


class _NoTexts(ast.NodeTransformer):
    """Take the texts from an error."""

    def visit_JoinedStr(self, node):
        return ast.Constant("")

    def visit_Constant(self, node):
        return ast.Constant("") if isinstance(node.value, str) else node


class _Imports(ast.NodeTransformer):
    """Collect the modules of the package that a file imports, at any depth of nesting.

    The `__init__` of a parent package counts only when it is imported itself: ours hold lazy names, and counting them
    would tie every rule to everything. Names that only stood in annotations do not count.
    """

    def __init__(self, unused: set[str]):
        self.unused, self.modules = unused, set()

    def visit_Import(self, node):
        self.modules.update(alias.name for alias in node.names if alias.name.split(".")[0] == PACKAGE)
        return node

    def visit_ImportFrom(self, node):
        node.names = [alias for alias in node.names if (alias.asname or alias.name) not in self.unused]
        # Relative ones are those of modules from elsewhere: ruff bans them in this project.
        if not node.level and node.module.split(".")[0] == PACKAGE:
            for alias in node.names:
                member = f"{node.module}.{alias.name}"
                self.modules.add(member if _module_file(member) else node.module)
        return node if node.names else None


def _last(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _declares(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and all(_last(target) in DECLARED for target in node.targets)


def _checks(node: ast.stmt) -> bool:
    """Return whether a statement in a class of typed settings declares or checks a field."""
    if isinstance(node, ast.FunctionDef):
        return any("validator" in ast.dump(decorator) for decorator in node.decorator_list)
    texts = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return (
        texts
        or isinstance(node, ast.AnnAssign)
        or (isinstance(node, ast.Assign) and _last(node.targets[0]) == "model_config")
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
