"""Reading YAML, and checking it against a typed model: one line for each mistake."""

import re
import types
import typing
from collections.abc import Callable, Iterable
from pathlib import Path

import yaml
from pydantic import BaseModel, ValidationError

from whysgd.errors import UserError, listed, nearest

ROOT = Path(__file__).resolve().parents[2]


def read_yaml(path: Path):
    """Read a YAML file.

    Raises:
        UserError: the file is missing, is not YAML, or gives a key twice (with the line).
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError:
        close = nearest(path.name, (file.name for file in path.parent.glob("*.yaml")))
        raise UserError(f"{path}: no such file{close}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise UserError(f"{where}: not YAML ({problem})") from None
    except RecursionError:
        raise UserError(f"{path}: not YAML that can be read (too many brackets in one another)") from None


class _Loader(yaml.SafeLoader):
    """YAML in which a key that is given twice is a mistake: plain YAML would silently take the last one."""

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a text", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} is given twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


class Problems(ValueError):  # noqa: N818, they are told, not handled
    """What is wrong within a value: (path of keys, what follows them in the error's line) for each problem."""

    def __init__(self, found: list[tuple[tuple, str]]):
        super().__init__("; ".join(line(path, text) for path, text in found))
        self.found = found


def checked(model: type[BaseModel], value, where: Callable[[tuple], str]) -> BaseModel:
    """Read a value that came from YAML as a typed model; `where` returns the file to blame for a key's path.

    Raises:
        UserError: one line for each problem: file, key, value and what is allowed.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        lines = [f"{where(path)}: {line(path, text)}" for path, text in problems_of(error, model)]
        raise UserError("\n".join(dict.fromkeys(lines))) from None


def problems_of(error: ValidationError, model: type[BaseModel], missing: bool = True) -> list[tuple[tuple, str]]:
    """Return (path of keys, what follows them in the error's line) for each problem that pydantic found.

    Without `missing`, keys that are not there are no problem.
    """
    found = []
    for one in error.errors(include_url=False):
        path, inner = tuple(one["loc"]), one.get("ctx", {}).get("error")
        if path[-1:] == ("[key]",):
            found.append((path[:-1], f": {rule(one)}"))
        elif isinstance(inner, Problems):
            found += [(path + inside, "." * (not inside and text[0].isalpha()) + text) for inside, text in inner.found]
        elif one["type"] in ("extra_forbidden", "invalid_key"):
            fields = _without_null(_annotation_at(model, path[:-1])).model_fields
            known = sorted(field.alias or name for name, field in fields.items())
            found.append((path, f": unknown key; allowed here: {', '.join(known)}{nearest(path[-1], known)}"))
        elif one["type"] == "missing":
            found += [(path[:-1], f": {path[-1]} must be given")] * missing
        elif inner is not None:
            # A message of a whole model begins with the key that it is about.
            found.append((path, f".{inner}" if path else str(inner)))
        else:
            nullable = types.NoneType in typing.get_args(_annotation_at(model, path))
            null = " or null" if nullable and one["type"].endswith("_type") else ""
            found.append((path, f" = {one['input']!r}: {rule(one)}{null}"))
    return found


def check_known(value, known: Iterable[str], problem: str) -> None:
    """Refuse a value that is none of the known ones: tell the problem, what is allowed, and the nearest of these."""
    known = list(known)
    if value not in known:
        raise UserError(f"{problem}; allowed: {listed(known)}{nearest(value, known)}")


def dotted(path: tuple) -> str:
    """Write a key's path as people do: ("seeds", 0) is `seeds[0]`."""
    text = ""
    for part in path:
        name = str(part) if str(part).isprintable() else repr(part)
        text += f"[{part}]" if isinstance(part, int) else f".{name}" if text else name
    return text


def line(path: tuple, text: str) -> str:
    """Return what is wrong, with the key that has it."""
    return f"top level{text}" if not path and text[0] in ": " else f"{dotted(path)}{text}"


_RULES = {
    "int_type": "must be a whole number",
    "float_type": "must be a finite number",
    "finite_number": "must be a finite number",
    "string_type": "must be a text",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "greater_than_equal": "must be at least {ge:g}",
    "greater_than": "must be above {gt:g}",
    "less_than_equal": "must be at most {le:g}",
    "less_than": "must be below {lt:g}",
    "too_short": "must have at least {min_length} entries",
    "too_long": "must have at most {max_length} entries",
    "string_too_short": "must not be empty",
}


def rule(one: dict) -> str:
    """Return what is allowed in place of a value."""
    if one["type"] == "literal_error":
        known = re.findall(r"'([^']*)'", one["ctx"]["expected"])
        return f"allowed: {', '.join(known)}{nearest(one['input'], known)}"
    number = written(one["input"])
    hint = f"; write {number}" if number and one["type"] == "float_type" else ""
    return _RULES[one["type"]].format(**one.get("ctx", {})) + hint if one["type"] in _RULES else one["msg"]


def written(value) -> str | None:
    """Return how YAML writes a number that it took for a text, as it does 1e-3, which lacks a point; else None."""
    found = isinstance(value, str) and re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+", value)
    return yaml.safe_dump(float(value)).split()[0] if found else None


def _annotation_at(model: type[BaseModel], path: tuple):
    """Return the type of the value that lies at a path of keys in a model; None if it has no single one."""
    found = model
    for part in path:
        found = _without_null(found)
        if isinstance(found, type) and issubclass(found, BaseModel):
            field = found.model_fields.get(part)
            found = field.annotation if field else None
        else:
            found = (typing.get_args(found) or (None,))[-1 if typing.get_origin(found) is dict else 0]
    return found


def _without_null(annotation):
    """Return the type without `| None` and without pydantic's notes on it."""
    while True:
        arguments = typing.get_args(annotation)
        if typing.get_origin(annotation) is typing.Annotated:
            annotation = arguments[0]
        elif types.NoneType in arguments:
            annotation = next(one for one in arguments if one is not types.NoneType)
        else:
            return annotation
