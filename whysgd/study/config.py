"""The configuration: files laid over one another, validated, defaults filled in."""

from collections.abc import Mapping
from pathlib import Path

import yaml

from whysgd.data.catalog import BUILT_IN
from whysgd.errors import UserError
from whysgd.models.catalog import ALLOWED, architecture
from whysgd.study.names import TAKEN, same_but_for_case
from whysgd.study.validation import ROOT, dotted, read_yaml, validated

DEFAULT_FILE = ROOT / "config.yaml"
PAPERS = ROOT / "papers"
SAME = "same"
_ABSENT = object()


def load_config(overlays=(), settings: Mapping | None = None) -> dict:
    """config.yaml, then the overlays, then single settings; the last one wins.

    Args:
        overlays: further YAML files, as given to `--configfile`.
        settings: top-level keys, as given to `--config`.

    Raises:
        UserError: a file is missing or not YAML, or the result is not valid.
    """
    files = [DEFAULT_FILE, *map(Path, overlays)]
    merged: dict = {}
    for file in files:
        merged = _merge(merged, read_yaml(file) or {}, file)
    return validate_config({**merged, **(settings or {})}, files)


def validate_config(config: Mapping, files=(DEFAULT_FILE,)) -> dict:
    """The configuration with defaults filled in.

    Args:
        config: the merged mapping (Snakemake merges the files itself).
        files: where it came from, in order; errors name the file that has the key.

    Raises:
        UserError: an unknown key, a wrong type or an impossible value: file, key and what is allowed.
    """
    contents = [(Path(file), read_yaml(Path(file)) or {}) for file in files]

    def where(path: tuple) -> str:
        value = _at(config, path)
        for file, content in reversed(contents):
            found = _at(content, path)
            if found is not _ABSENT and (isinstance(found, dict) or found == value):
                return _short(file)
        # A key that is missing is looked for where its surroundings stand.
        return where(path[:-1]) if len(path) > 1 and value is _ABSENT else "--config"

    checked = validated(dict(config), "config.schema.yaml", where)

    def check(path: tuple, value, allowed) -> None:
        if value not in allowed:
            raise UserError(f"{where(path)}: {dotted(path)} = {value!r}: allowed: {', '.join(allowed)}")

    check(("scale",), checked["scale"], checked["scales"])
    papers = sorted(file.stem for file in PAPERS.glob("*.yaml"))
    for index, name in enumerate(checked["papers"]):
        check(("papers", index), name, papers)
    for key, taken in (("datasets", (SAME, *BUILT_IN)), ("scales", TAKEN)):
        for name in checked[key]:
            if name in taken:
                raise UserError(f"{where((key, name))}: {dotted((key, name))}: the name is taken")
        if pair := same_but_for_case((*checked[key], *taken)):
            raise UserError(f"{where((key, pair[-1]))}: {key}: {' and '.join(pair)}: differ in case alone")
    for scale, rules in checked["scales"].items():
        for key in ("table_seeds", "grids"):
            for name in rules[key]:
                check(("scales", scale, key, name), name, papers)
        for name, target in rules["datasets"].items():
            check(("scales", scale, "datasets", name), target, (SAME, *BUILT_IN, *checked["datasets"]))
        for name, target in rules["models"].items():
            if architecture(target) is None:
                check(("scales", scale, "models", name), target, (SAME, *ALLOWED))
    return checked


def retyped(value):
    """A value of `--config` with numbers, truth values and nulls as such: Snakemake leaves them as text."""
    if isinstance(value, dict):
        return {key: retyped(item) for key, item in value.items()}
    if isinstance(value, list):
        return [retyped(item) for item in value]
    try:
        return yaml.safe_load(value) if isinstance(value, str) and value else value
    except yaml.YAMLError:
        return value


def _merge(below: dict, above, file: Path) -> dict:
    if not isinstance(above, dict):
        raise UserError(f"{_short(file)}: top level must be a mapping of keys to values")
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value, file) if both else value
    return merged


def _at(content, path: tuple):
    for part in path:
        if (isinstance(content, Mapping) and part in content) or (
            isinstance(content, list) and isinstance(part, int) and part < len(content)
        ):
            content = content[part]
        else:
            return _ABSENT
    return content


def _short(file: Path) -> str:
    file = file.resolve()
    return str(file.relative_to(ROOT)) if file.is_relative_to(ROOT) else str(file)
