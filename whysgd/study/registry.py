"""Find penalties, transforms, optimizers, schedules, networks, measures and figures by name or by dotted path.

Each kind has a folder. A name is a file of it: the function of the same name, whose parameter `settings` is annotated
with a class of typed settings. A network's file names its networks in a constant. Wherever a name stands,
`my_package.my_module:my_function` works, too. Nothing here imports torch: files of networks and measures, which do,
are read as text.
"""

import ast
import importlib
import importlib.util
import inspect
import re
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, create_model

from whysgd.errors import UserError, listed, nearest
from whysgd.study.names import is_dotted
from whysgd.study.schedule import DecaySettings
from whysgd.study.settings import Count, Flag, MethodSettings, NotNegative, Positive, Settings, refuse
from whysgd.study.validation import ROOT, written

FOLDERS = {
    "penalty": "whysgd.training.penalties",
    "transform": "whysgd.training.transforms",
    "optimizer": "whysgd.training.optimizers",
    "schedule": "whysgd.training.schedules",
    "network": "whysgd.models",
    "measure": "whysgd.measures",
    "figure": "whysgd.report.figures",
}
# The key that says which one is meant.
TAGS = {"schedule": "decay"}
# Names below these are classes of torch, whose arguments are only checked when training starts.
_FOREIGN = ("torch.", "torchvision.")
# The constant that makes a file of a folder with other files one of its kind.
_MARKS = {"network": "NETWORKS", "measure": "QUANTITIES"}
# What an argument of a measure may be, by its annotation.
_ARGUMENTS = {"bool": Flag, "int": Count, "float": Positive, "NotNegative": NotNegative}


def names(kind: str) -> list[str]:
    """Return the names that a kind has in this repository."""
    return list(_files(kind))


def problem(kind: str, name: Any) -> str | None:
    """Return why there is no such name, with what is allowed and the nearest match, or None if there is."""
    if is_dotted(name) or (isinstance(name, str) and file_of(kind, name) is not None):
        return None
    patterns = [found["WRITTEN"] for file in _sources(kind) if "WRITTEN" in (found := constants(file))]
    allowed = listed([*names(kind), *patterns], 60)
    return f"allowed: {allowed}, or a dotted path package.module:name{nearest(name, names(kind))}"


def find(kind: str, name: str) -> Callable:
    """Return the function, or class, of this name; refuse a name that there is not, and say what is allowed."""
    if (why := problem(kind, name)) is not None:
        raise UserError(f"{kind} = {name!r}: {why}")
    if ":" in name:
        module, _, attribute = name.partition(":")
    else:
        attribute = file_of(kind, name).stem
        module = f"{FOLDERS[kind]}.{attribute}"
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        absent = isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}.")
        where = "; PYTHONPATH must have its folder" if absent else ""
        raise UserError(f"{kind} = {name!r}: cannot be imported ({error}){where}") from None


def settings_of(kind: str, name: str) -> type[BaseModel]:
    """Return the class of the settings of this name.

    Those of a measure are the arguments of its function that have defaults. A class of torch takes any arguments;
    `options_for` checks them.

    Raises:
        UserError: there is no such name, or what it names shows no arguments.
    """
    if name.startswith(_FOREIGN):
        return _open_settings(kind)
    if kind == "measure":
        return _signature_settings(name)
    function = find(kind, name)
    try:
        parameter = inspect.signature(function).parameters.get("settings")
    except (TypeError, ValueError):  # of what is not called, or is written in C
        raise UserError(f"{kind} = {name!r}: must be a function written in Python") from None
    annotation = parameter.annotation if parameter else inspect.Parameter.empty
    if isinstance(annotation, str):
        annotation = getattr(inspect.getmodule(function), annotation, annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return _open_settings(kind) if parameter is None else MethodSettings


def options_for(kind: str, target: Callable, settings: BaseModel) -> dict:
    """Return the keyword arguments that settings give a class of torch; refuse one that the class does not have."""
    options = dict(settings.model_extra or {})
    # The first is what it works on; the rate is the loop's.
    known = [name for name in list(inspect.signature(target).parameters)[1:] if name != "lr"]
    for key in options:
        if key not in known:
            where = f"{kind} {getattr(settings, TAGS.get(kind, 'name'))}: {key}"
            raise UserError(f"{where}: unknown key; allowed here: {', '.join(known)}{nearest(key, known)}")
    return options


def make(kind: str, name: str, **options) -> BaseModel:
    """Return the typed settings of a name, with these options in place of defaults."""
    return settings_of(kind, name)(**{TAGS.get(kind, "name"): name}, **options)


def label(kind: str, name: str) -> str:
    """Return how tables and figures call this name: its file's constant `LABEL`, or the name in words."""
    file = file_of(kind, name)
    return (constants(file) if file else {}).get("LABEL", short(name).replace("_", " "))


def short(name: str) -> str:
    """Return a name that can be a part of a path: of a dotted path, what it names."""
    return name.rpartition(":")[2]


def network(name: str) -> tuple[str, dict] | None:
    """Return the family of a network of this repository and its arguments; None if there is no such network.

    A name that ends with _<variant> is the network without that, changed as the family's `VARIANTS` say.
    """
    for file in _sources("network"):
        found = constants(file)
        if name in found["NETWORKS"]:
            return file.stem, found["NETWORKS"][name]
        if match := re.fullmatch(found.get("PATTERN", "(?!)"), name):
            return file.stem, {key: int(number) for key, number in match.groupdict().items()}
        base, _, ending = name.rpartition("_")
        if base and "VARIANTS" in found:
            change = (found["VARIANTS"] | constants(file.with_name("layers.py"))["VARIANTS"]).get(ending)
            rest = change and network(base)
            # Nothing is set twice.
            if rest and rest[0] == file.stem and not change.items() <= rest[1].items():
                return file.stem, {**rest[1], **change}
    return None


def file_of(kind: str, name: str) -> Path | None:
    """Return the file that holds a name; None if there is no such name, or it is one of torch's."""
    if ":" in name:
        return None if name.startswith(_FOREIGN) else _module_file(name.partition(":")[0])
    if kind == "network" and name not in _files(kind):
        found = network(name)
        return ROOT.joinpath(*FOLDERS[kind].split("."), f"{found[0]}.py") if found else None
    return _files(kind).get(name)


def source_of(kind: str, name: str) -> Path:
    """Return the file that holds a name of this repository or of a dotted path; refuse a name without."""
    if (file := file_of(kind, name)) is None:
        raise UserError(f"{kind} = {name!r}: {problem(kind, name) or 'no such module'}")
    return file


@cache
def constants(file: Path) -> dict[str, Any]:
    """Return the constants at the top level of a file that are plain data, without running it."""
    found = {}
    for node in ast.parse(file.read_text(encoding="utf-8"), str(file)).body:
        if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name | ast.Tuple):
            continue
        with suppress(ValueError):
            value, target = ast.literal_eval(node.value), node.targets[0]
            pairs = zip(target.elts, value, strict=True) if isinstance(target, ast.Tuple) else [(target, value)]
            found |= {one.id: part for one, part in pairs}
    return found


def constant(kind: str, name: str, key: str) -> Any:
    """Return a constant of the file that holds a name; refuse a file without it."""
    file = source_of(kind, name)
    if key not in constants(file):
        raise UserError(f"{kind} = {name!r}: {file}: must have the constant {key}, plain data")
    return constants(file)[key]


@cache
def _sources(kind: str) -> list[Path]:
    """Return the files of a kind's folder that hold something of it."""
    mark = _MARKS.get(kind)
    files = sorted(ROOT.joinpath(*FOLDERS[kind].split(".")).glob("[!_]*.py"))
    # Only files that may have the mark are parsed.
    return [one for one in files if not mark or (f"\n{mark} = " in one.read_text("utf-8") and mark in constants(one))]


@cache
def _files(kind: str) -> dict[str, Path]:
    if kind == "network":
        return {name: file for file in _sources(kind) for name in constants(file)["NETWORKS"]}
    # Words of a schedule's name are joined as in papers/: one-cycle.
    return {file.stem.replace("_", "-") if kind == "schedule" else file.stem: file for file in _sources(kind)}


def _module_file(module: str) -> Path | None:
    try:
        found = importlib.util.find_spec(module)
    except ImportError:
        return None
    return Path(found.origin) if found and found.origin and found.origin.endswith(".py") else None


def _no_number(value):
    return refuse(f"must be a number; write {number}") if (number := written(value)) else value


@cache
def _open_settings(kind: str) -> type[BaseModel]:
    """Return settings with any options beside those that all of a kind have."""
    base = DecaySettings if kind == "schedule" else MethodSettings

    class AnySettings(base):
        model_config = ConfigDict(extra="allow")
        __pydantic_extra__: dict[str, Annotated[Any, AfterValidator(_no_number)]]

    return AnySettings


@cache
def _signature_settings(name: str) -> type[BaseModel]:
    """Return a measure's settings, read from its function's arguments with defaults and its docstring."""
    file = source_of("measure", name)
    constant("measure", name, "QUANTITIES")
    tree, stem = ast.parse(file.read_text(encoding="utf-8")), short(name)
    function = next((node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == stem), None)
    if function is None:
        raise UserError(f"measure = {name!r}: no function {stem} in {file}")
    arguments, described = function.args.args, _described(ast.get_docstring(function) or "")
    fields = {}
    defaults = function.args.defaults
    for argument, node in zip(arguments[len(arguments) - len(defaults) :], defaults, strict=True):
        try:
            default = constants(file)[node.id] if isinstance(node, ast.Name) else ast.literal_eval(node)
        except (KeyError, ValueError):
            why = "its default must be plain data, or a constant of the file that is"
            raise UserError(f"measure = {name!r}: {file}: {stem}: {argument.arg}: {why}") from None
        annotation, _, null = (ast.unparse(argument.annotation) if argument.annotation else "").partition(" | ")
        if annotation not in _ARGUMENTS:
            why = f"must be annotated as {', '.join(_ARGUMENTS)}, or one of these | None"
            raise UserError(f"measure = {name!r}: {file}: {stem}: {argument.arg}: {why}")
        kind = _ARGUMENTS[annotation] | None if null else _ARGUMENTS[annotation]
        fields[argument.arg] = (kind, Field(default, description=described.get(argument.arg)))
    return create_model(stem, __base__=Settings, __doc__=f"Options of {stem}.", **fields)


def _described(docstring: str) -> dict[str, str]:
    """Return the first line of what a docstring says of each argument."""
    part = re.search(r"^Args:\n(.*?)(?:\n\n|\Z)", docstring, re.MULTILINE | re.DOTALL)
    entries = re.findall(r"^    (\w[\w, ]*): (.*(?:\n {8}.*)*)", part[1] if part else "", re.MULTILINE)
    return {name.strip(): " ".join(text.split()) for several, text in entries for name in several.split(",")}
