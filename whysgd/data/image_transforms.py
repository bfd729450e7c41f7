"""Transforms of torchvision.transforms.v2, and of dotted paths, on single images.

They draw from the global generators, so these are seeded for each image and put back afterwards. All is done on the
CPU: an image has the same draws on every machine, whatever else is transformed beside it.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from functools import partial
from importlib import import_module
from inspect import Parameter, signature
from threading import Lock

import numpy as np
import torch

from whysgd.errors import UserError, nearest
from whysgd.study.registry import find
from whysgd.study.settings import ImageTransform

# Only one thread at a time may have the global generators.
_GLOBAL = Lock()


def image_transform(chosen: ImageTransform) -> Callable:
    """Return the function of an image (C, H, W) that a setting names: a class with its arguments, or a function.

    Raises:
        UserError: there is no such name, or it does not take these arguments.
    """
    where = f"augment.transforms: {chosen.name}"
    if ":" not in chosen.name and chosen.name not in (names := dir(import_module("torchvision.transforms.v2"))):
        raise UserError(f"{where}: no class of torchvision.transforms.v2{nearest(chosen.name, names)}")
    target = find("augmentation", chosen.path)
    if isinstance(target, type):
        known = dict(signature(target).parameters)
    else:
        known = dict(list(signature(target).parameters.items())[1:])
    options = dict(chosen.model_extra)
    for key, value in options.items():
        if key not in known:
            raise UserError(f"{where}: {key}: unknown key; allowed here: {', '.join(known)}{nearest(key, [*known])}")
        if isinstance(known[key].default, Enum):
            kind = type(known[key].default)
            allowed = [one.value for one in kind]
            if value not in allowed:
                raise UserError(f"{where}: {key} = {value!r}: allowed: {', '.join(allowed)}{nearest(value, allowed)}")
            options[key] = kind(value)
    for key, one in known.items():
        open_ended = one.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
        if one.default is Parameter.empty and key not in options and not open_ended:
            raise UserError(f"{where}: {key} must be given")
    try:
        return target(**options) if isinstance(target, type) else partial(target, **options)
    except (ValueError, TypeError) as error:
        raise UserError(f"{where}: {error}") from None


def transform_each(images: torch.Tensor, seeds: Sequence[int], transforms: Sequence[Callable]) -> torch.Tensor:
    """Return images (n, C, H, W) uint8, each after all transforms, with the draws of its seed.

    Raises:
        UserError: a transform returns something else than such an image.
    """
    out = torch.empty_like(images)
    with _global_generators():
        for index, seed in enumerate(map(int, seeds)):
            torch.default_generator.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed % 2**32)
            image = images[index]
            for transform in transforms:
                image = transform(image)
                if image.dtype != torch.uint8 or image.shape != images.shape[1:]:
                    found = f"{tuple(image.shape)} of {str(image.dtype)[6:]}"
                    wanted = f"{tuple(images.shape[1:])} of uint8"
                    raise UserError(f"augment.transforms: {transform}: returns {found}; must be {wanted}")
            out[index] = image
    return out


@contextmanager
def _global_generators() -> Iterator[None]:
    """Within the block this thread may use the generators of torch, numpy and Python; they are as before afterwards."""
    with _GLOBAL:
        before = torch.get_rng_state(), np.random.get_state(), random.getstate()
        try:
            yield
        finally:
            torch.set_rng_state(before[0])
            np.random.set_state(before[1])
            random.setstate(before[2])
