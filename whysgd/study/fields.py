"""Types of fields that name something of the registry, or that take a part of other settings."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, PlainSerializer, ValidationError, WithJsonSchema, WrapValidator
from pydantic_core import core_schema

from whysgd.errors import UserError
from whysgd.study.registry import TAGS, names, problem, settings_of
from whysgd.study.settings import refuse
from whysgd.study.validation import Problems, problems_of


def known(kind: str):
    """Return the type of a text that must be a name of a kind, or a dotted path."""

    def check(value):
        return value if (why := problem(kind, value)) is None else refuse(why)

    shapes = [{"enum": names(kind)}, {"type": "string", "pattern": ":"}]
    return Annotated[Any, AfterValidator(check), WithJsonSchema({"anyOf": shapes})]


def kept_as_given(model: type[BaseModel]):
    """Return the type of a mapping that must fit a typed model and is kept as it is, without defaults."""

    def check(value, validate):
        validate(value)
        return dict(value)

    return Annotated[model, WrapValidator(check), PlainSerializer(lambda value: value)]


class Chosen:
    """Marks a field whose settings are those of the named penalty, transform, optimizer or schedule.

    Partial ones may lack some, since others will be laid over or under them, and are kept as given. `only` are the
    names that are allowed, if not all are; with `several`, a list of mappings is allowed, too.
    """

    def __init__(self, kind: str, partial: bool = False, only: tuple[str, ...] = (), several: bool = False):
        self.kind, self.partial, self.only, self.tag = kind, partial, only, TAGS.get(kind, "name")
        self.several = several

    def read(self, value):
        """Return the typed settings of a mapping; of partial ones, the mapping."""
        if isinstance(value, BaseModel):
            return value
        if not isinstance(value, Mapping):
            refuse("must be a mapping")
        if self.tag not in value:
            refuse(f"{self.tag} must be given")
        name = value[self.tag]
        why = f"allowed: {', '.join(self.only)}" if self.only and name not in self.only else problem(self.kind, name)
        try:
            model = None if why else settings_of(self.kind, name)
        except UserError as error:
            why = str(error).partition(": ")[2]
        if why:
            raise Problems([((self.tag,), f" = {name!r}: {why}")])
        try:
            read = model.model_validate(value)
        except ValidationError as error:
            found = problems_of(error, model, missing=not self.partial)
            if found:
                raise Problems(found) from None
        return dict(value) if self.partial else read

    def __get_pydantic_core_schema__(self, source, handler):
        def read_each(value, each):
            return each(value) if self.several and isinstance(value, list | tuple) else self.read(value)

        each = core_schema.tuple_variable_schema(core_schema.no_info_plain_validator_function(self.read))
        serialization = core_schema.plain_serializer_function_ser_schema(_plain)
        return core_schema.no_info_wrap_validator_function(read_each, each, serialization=serialization)

    def __get_pydantic_json_schema__(self, schema, handler):
        shapes = []
        for name in self.only or names(self.kind):
            shape = settings_of(self.kind, name).model_json_schema()
            shape["properties"][self.tag] = {"const": name}
            needed = set() if self.partial else {*shape.get("required", [])}
            shapes.append(shape | {"title": name, "required": sorted({self.tag, *needed})})
        own = {"type": "object", "properties": {self.tag: {"type": "string", "pattern": ":"}}, "required": [self.tag]}
        one = {"oneOf": shapes if self.only else [*shapes, own | {"title": "a dotted path"}]}
        return {"anyOf": [one, {"type": "array", "items": one}]} if self.several else one


def _plain(value):
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return value.model_dump() if isinstance(value, BaseModel) else value
