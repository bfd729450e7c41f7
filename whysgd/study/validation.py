"""JSON-schema validation with defaults filled in and errors of one line."""

import math
import re
from copy import deepcopy
from functools import cache
from pathlib import Path

import yaml
from jsonschema import Draft202012Validator, ValidationError
from jsonschema.validators import extend

from whysgd.errors import UserError
from whysgd.study.names import NEEDED

ROOT = Path(__file__).resolve().parents[2]


def read_yaml(path: Path):
    """Read a YAML file.

    Raises:
        UserError: the file is missing, is not YAML, or gives a key twice (with the line).
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
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


def validated(value, schema_file: str, where, part: str | None = None) -> dict:
    """A copy of `value` with the schema's defaults filled in.

    Args:
        value: what was read from YAML.
        schema_file: a file of config/.
        where: called with a key's path (a tuple), returns the name of the file to blame.
        part: one of the schema's `$defs`, in place of all of it.

    Raises:
        UserError: one line for each problem: file, key, value and what is allowed.
    """
    value = deepcopy(value)
    errors = sorted(_validator(schema_file, part).iter_errors(value), key=lambda e: str(list(e.absolute_path)))
    if errors:
        raise UserError("\n".join(dict.fromkeys(_line(error, where) for error in errors)))
    return value


@cache
def _validator(schema_file: str, part: str | None = None):
    schema = yaml.safe_load((ROOT / "config" / schema_file).read_text(encoding="utf-8"))
    if part is not None:
        schema = {"$schema": schema["$schema"], "$defs": schema["$defs"], **schema["$defs"][part]}
    check_properties = Draft202012Validator.VALIDATORS["properties"]

    def fill_defaults(validator, properties, instance, subschema):
        if isinstance(instance, dict):
            for key, rule in properties.items():
                if "default" in rule:
                    instance.setdefault(key, deepcopy(rule["default"]))
        yield from check_properties(validator, properties, instance, subschema)

    def check_pattern(validator, pattern, instance, subschema):
        # At the end of a pattern, Python's $ would let a line break follow.
        if isinstance(instance, str) and not re.search(re.sub(r"\$$", r"\\Z", pattern), instance):
            yield ValidationError(f"{instance!r} does not match {pattern!r}")

    # JSON schema takes 5.0 for a whole number; seeds and sizes must be real ones. Infinity is no setting.
    types = Draft202012Validator.TYPE_CHECKER.redefine_many({"integer": _is_whole, "number": _is_finite})
    own = {"properties": fill_defaults, "pattern": check_pattern}
    return extend(Draft202012Validator, own, type_checker=types)(schema)


def _is_whole(_, value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_finite(_, value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _line(error, where) -> str:
    path = tuple(error.absolute_path)
    key, got, rule = dotted(path), error.instance, error.validator_value
    if error.validator == "additionalProperties":
        allowed = sorted(error.schema.get("properties", {}))
        unknown = sorted((key for key in got if key not in allowed), key=str)
        path += (unknown[0],)
        names = ", ".join(dotted((*error.absolute_path, name)) for name in unknown)
        return f"{where(path)}: {names}: unknown key; allowed here: {', '.join(allowed)}"
    if error.validator == "required":
        missing = [name for name in rule if name not in got]
        return f"{where(path)}: {key or 'top level'}: {', '.join(missing)} must be given"
    allowed = {
        "enum": lambda: f"allowed: {', '.join(map(str, rule))}",
        "const": lambda: f"allowed: {rule}",
        "type": lambda: f"must be {_either(rule)}",
        "minimum": lambda: f"must be at least {rule}",
        "exclusiveMinimum": lambda: f"must be above {rule}",
        "maximum": lambda: f"must be at most {rule}",
        "exclusiveMaximum": lambda: f"must be below {rule}",
        "minItems": lambda: f"must have at least {rule} entries",
        "minProperties": lambda: f"must have at least {rule} entries",
        "minLength": lambda: "must not be empty",
        "maxLength": lambda: f"must have at most {rule} letters",
        "uniqueItems": lambda: "must not repeat an entry",
        "pattern": lambda: _pattern(rule),
    }.get(error.validator, lambda: error.message)()
    return f"{where(path)}: {key or 'top level'} = {got!r}: {allowed}"


def dotted(path: tuple) -> str:
    """A key's path as people write it: ("seeds", 0) is `seeds[0]`."""
    text = ""
    for part in path:
        name = str(part) if str(part).isprintable() else repr(part)
        text += f"[{part}]" if isinstance(part, int) else f".{name}" if text else name
    return text


def _pattern(rule: str) -> str:
    if rule == "^(all|block)$":
        return "must be a whole number, `all` or `block`"
    return NEEDED


def _either(types) -> str:
    articles = {
        "integer": "a whole number",
        "number": "a finite number",
        "string": "a text",
        "boolean": "true or false",
        "array": "a list",
        "object": "a mapping",
        "null": "null",
    }
    return " or ".join(articles[name] for name in ([types] if isinstance(types, str) else types))
