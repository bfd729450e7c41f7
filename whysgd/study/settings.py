"""The base of all typed settings, and the types of their fields. Importing this loads no torch."""

import math
import os
import unicodedata
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from whysgd.study.names import LONGEST, NEEDED, is_dotted, is_name


class Settings(BaseModel):
    """Settings that cannot change after they are made and refuse unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @model_validator(mode="after")
    def _can_be_computed(self):
        """Refuse numbers that overflow, or are a slip of the keyboard."""
        for key, value in self:
            for one in value if isinstance(value, list | tuple) else [value]:
                most = 10**9 if isinstance(one, int) else 1e30
                if isinstance(one, int | float) and abs(one) > most:
                    raise ValueError(f"{key} = {value!r}: must be at most {most:g}")
        return self

    def replace(self, **changes) -> "Settings":
        """Return a checked copy with other values."""
        return type(self).model_validate({**dict(self), **changes})


class MethodSettings(Settings):
    """Settings of a penalty, transform or optimizer."""

    name: str = ""
    """A file of the kind's folder, or a dotted path such as my_package.my_module:my_function."""


def flat(entry: Mapping, prefix: str = "") -> dict:
    """Return an entry without dicts in it: `{"a": {"b": 1}}` is `{"a.b": 1}`; lists become text."""
    lines = {}
    for key, value in entry.items():
        if isinstance(value, Mapping):
            lines |= flat(value, f"{prefix}{key}.")
        else:
            lines[f"{prefix}{key}"] = ", ".join(map(str, value)) if isinstance(value, list) else value
    return lines


def is_real(value) -> bool:
    """Return whether a value is a finite number, which true and false are not."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def refuse(message: str) -> None:
    """Raise the error that a validator raises for a value; `message` says what is allowed."""
    raise PydanticCustomError("refused", "{message}", {"message": message})


def must(check: Callable[[Any], bool], message: str) -> AfterValidator:
    """Return the validator that refuses other values than those that pass a check; `message` says what is allowed."""
    return AfterValidator(lambda value: value if check(value) else refuse(message))


def _text(value):
    """Read a text of digits, which YAML and `--config` take for a number."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _line(value: str) -> str:
    """Return a text in one line, for files and pictures that cannot hold a sign such as \\0."""
    value = " ".join(value.split())
    controls = {sign for sign in value if unicodedata.category(sign) in ("Cc", "Cs")}
    return refuse(f"must have no control characters, as {min(controls)!a} is") if controls else value


def _path(value: str) -> str:
    if not value.isprintable():
        refuse("must be a path of printable letters")
    home = os.path.expanduser(value)
    return refuse("~ must stand for a home; a folder with that name is ./~") if home.startswith("~") else home


Whole = Annotated[int, Field(strict=True)]
Index = Annotated[Whole, Field(ge=0)]
Count = Annotated[Whole, Field(ge=1)]
# For what is made one by one: jobs, files, lines, points.
Few = Annotated[Count, Field(le=100_000)]
Points = Annotated[Whole, Field(ge=3, le=1001)]
Threads = Annotated[Count, Field(le=1024)]
Real = Annotated[float, Field(strict=True, allow_inf_nan=False)]
NotNegative = Annotated[Real, Field(ge=0)]
Positive = Annotated[Real, Field(gt=0)]
Divisor = Annotated[Real, Field(ge=1)]
Share = Annotated[Real, Field(ge=0, le=1)]
Flag = Annotated[bool, Field(strict=True)]
Line = Annotated[str, BeforeValidator(_text), AfterValidator(_line)]
Text = Annotated[str, Field(min_length=1), BeforeValidator(_text), AfterValidator(_line)]
PathText = Annotated[str, Field(min_length=1), BeforeValidator(_text), AfterValidator(_path)]
_NAME_SCHEMA = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_.-]*$", "maxLength": LONGEST}
Name = Annotated[str, BeforeValidator(_text), must(is_name, NEEDED), WithJsonSchema(_NAME_SCHEMA)]
Method = Annotated[str, must(lambda one: is_name(one) or is_dotted(one), f"{NEEDED}, or a dotted path to a function")]
_SCALAR = must(lambda one: is_real(one) or isinstance(one, str), "must be a finite number or a text")
Scalar = Annotated[Any, _SCALAR, WithJsonSchema({"type": ["number", "string"]})]
Precision = Literal["auto", "fp32", "tf32", "bf16"]
UNIQUE = must(lambda values: len(set(map(repr, values))) == len(values), "must not repeat an entry")
Scalars = Annotated[list[Scalar], Field(min_length=1), UNIQUE]


class CropAndFlip(Settings):
    """A random crop after zero padding, and a horizontal flip."""

    crop_padding: Index
    """Pixels of zeros around the image before the crop."""
    flip: Flag
    """Flip left and right with probability 1/2."""


class ImageTransform(Settings):
    """A transform of single images, with its arguments."""

    model_config = ConfigDict(frozen=True, extra="allow")
    name: Method
    """A class of torchvision.transforms.v2, or a dotted path; it takes and returns images (C, H, W) of uint8."""

    @property
    def path(self) -> str:
        """Where it is found, as a dotted path."""
        return self.name if ":" in self.name else f"torchvision.transforms.v2:{self.name}"


class Augmentation(CropAndFlip):
    """A random crop after zero padding, a horizontal flip, and more."""

    crop_padding: Index = 0
    """Pixels of zeros around the image before the crop."""
    flip: Flag = False
    """Flip left and right with probability 1/2."""
    transforms: tuple[ImageTransform, ...] = ()
    """What follows, in order, with draws of its own for each image. It takes a CPU 0.5 ms and more for an image."""
