"""What follows from the typed models: JSON schemas for editors, and docs/settings*.md. `whysgd schema` writes them."""

import json
from collections.abc import Iterator
from itertools import chain

from pydantic import BaseModel

from whysgd.study.config import Config, Scale
from whysgd.study.paper import Paper
from whysgd.study.registry import TAGS, label, names, settings_of
from whysgd.study.spec import RunSettings

_WORDS = {
    "integer": "whole number", "string": "text", "boolean": "true or false", "array": "list", "object": "mapping",
}  # fmt: skip
_BOUNDS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
_MADE = """Wherever a name of a method, network or measure stands,
a dotted path such as `my_package.my_module:my_penalty` works, too: see [extending.md](extending.md). `whysgd schema`
makes this page from the typed models of `whysgd/study`."""
_CONFIGURATION = f"""# Settings

This page lists the keys of `config.yaml`, of a scale and of measures. [settings_papers.md](settings_papers.md) has
those of `papers/*.yaml`, a run's among them, and [settings_methods.md](settings_methods.md) the options of penalties,
transforms, optimizers and schedules. Editors that understand the first line of `config.yaml` and `papers/*.yaml` offer
the same.

{_MADE}
"""
_PAPERS = f"""# Settings of papers and runs

This page lists the keys of `papers/*.yaml`, which [papers.md](papers.md) explains, down to those of a run; the options
of its methods are in [settings_methods.md](settings_methods.md).

{_MADE}
"""
_METHODS = f"""# Options of methods

This page lists the options of penalties, transforms, optimizers and schedules; [methods.md](methods.md) has their
equations.

{_MADE}
"""


def files() -> dict[str, str]:
    """Return the content of each file that follows from the models, by its path."""
    told = {"Scale", *names("measure")}  # They have sections of their own, as a run's settings have.
    configuration = (
        _section("The configuration: config.yaml and files laid over it", Config, 2, told),
        _section("A scale", Scale, 2, told),
        _methods("measure", "Measures"),
    )
    told = {"SomeSettings"}
    papers = (
        _section("A paper: papers/*.yaml", Paper, 2, told),
        _section("A run of a paper", RunSettings, 2, told),
    )
    titles = {"penalty": "Penalties", "transform": "Transforms", "optimizer": "Optimizers", "schedule": "Schedules"}
    methods = (_methods(kind, title) for kind, title in titles.items())
    return {
        "config/schema/config.json": _schema(Config),
        "config/schema/paper.json": _schema(Paper),
        "docs/settings.md": _page(_CONFIGURATION, *configuration),
        "docs/settings_papers.md": _page(_PAPERS, *papers),
        "docs/settings_methods.md": _page(_METHODS, *methods),
    }


def _schema(model: type[BaseModel]) -> str:
    return json.dumps(_untitled(model.model_json_schema(by_alias=True)), indent=1, ensure_ascii=False) + "\n"


def _untitled(schema):
    """Return a schema without the titles that pydantic makes of keys; a key of ours that is called so has a mapping."""
    if isinstance(schema, list):
        return [_untitled(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: _untitled(value) for key, value in schema.items() if key != "title" or isinstance(value, dict)}


def _page(head: str, *parts: Iterator[str]) -> str:
    return "\n".join([head, *chain(*parts)]) + "\n"


def _methods(kind: str, title: str) -> Iterator[str]:
    yield f"## {title}\n"
    for name in names(kind):
        words = label(kind, name)
        heading = f"`{name}`" + (f" ({words})" if words != name.replace("_", " ") else "")
        yield from _section(heading, settings_of(kind, name), 3, set())


def _section(title: str, model: type[BaseModel], level: int, told: set[str]) -> Iterator[str]:
    """Yield the table of a model, and those of the models in it that have not been `told`."""
    schema = model.model_json_schema(by_alias=True)
    parts = schema.get("$defs", {})
    yield f"{'#' * level} {title}\n"
    yield from _table(schema, parts)
    for name in sorted(_used(schema["properties"], parts) - told):
        told.add(name)
        if parts[name].get("properties"):
            yield f"{'#' * (level + 1)} {name}: {parts[name].get('description', '')}\n"
            yield from _table(parts[name], parts)


def _used(schema, parts: dict) -> set[str]:
    """Return the models that a schema refers to, and those in them."""
    values = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ()
    found = {name for value in values for name in _used(value, parts)}
    if isinstance(schema, dict) and "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        found |= {name} | _used(parts[name], parts)
    return found


def _table(schema: dict, parts: dict) -> Iterator[str]:
    lines = ["| key | value | default | meaning |", "|---|---|---|---|"]
    for key, rule in schema["properties"].items():
        meaning = " ".join(rule.get("description", "").split())
        if meaning or key not in ("name", *TAGS.values()):
            default = f"`{json.dumps(rule['default'], ensure_ascii=False)}`" if "default" in rule else ""
            default = "must be given" if key in schema.get("required", []) else default
            lines.append(f"| `{key}` | {_kind(rule, parts)} | {default} | {meaning} |")
    yield "\n".join(lines) + "\n"


def _kind(rule: dict, parts: dict) -> str:
    """Return in words what a value may be."""
    if "$ref" in rule:
        name = rule["$ref"].rpartition("/")[2]
        return name if parts[name].get("properties") else _kind(parts[name], parts)
    for key in ("anyOf", "oneOf"):
        if key in rule:
            kinds = (one.get("title") if key == "oneOf" else _kind(one, parts) for one in rule[key])
            return " or ".join(dict.fromkeys(kinds))
    if "enum" in rule:
        return ", ".join(f"`{one}`" for one in rule["enum"])
    if "const" in rule:
        return f"`{rule['const']}`"
    kind = rule.get("type", "any")
    if isinstance(kind, list):
        return " or ".join(_kind({"type": one}, parts) for one in kind)
    bounds = " and ".join(f"{word} {rule[key]:g}" for key, word in _BOUNDS.items() if key in rule)
    inner = f" of {_kind(rule['items'], parts)}" if kind == "array" and "items" in rule else ""
    if kind == "object" and isinstance(rule.get("additionalProperties"), dict):
        inner = f" of {_kind(rule['additionalProperties'], parts)}"
    return f"{_WORDS.get(kind, kind)}{inner} {bounds}".rstrip()
