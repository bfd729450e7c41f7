"""Transforms of torchvision in training: drawn for each image, from the run's streams."""

import random

import numpy as np
import pytest
import torch
from conftest import make_dataset, make_spec, one_line, with_seeds
from test_seeds import assert_each_is_as_alone
from torchvision.transforms import v2

from whysgd.data.augmentation import crop_and_flip, draw
from whysgd.data.loader import DataLoader
from whysgd.streams import stream
from whysgd.study.settings import Augmentation
from whysgd.training.loop import Trainer

RAND = {"name": "RandAugment", "num_ops": 3}
CASES = {
    "RandAugment": (RAND, lambda: v2.RandAugment(num_ops=3)),
    "AutoAugment": (
        {"name": "AutoAugment", "policy": "cifar10"},
        lambda: v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10),
    ),
    "AugMix": ({"name": "AugMix", "severity": 2}, lambda: v2.AugMix(severity=2)),
    "any of torchvision": ({"name": "RandomErasing", "p": 0.9}, lambda: v2.RandomErasing(p=0.9)),
    "a dotted path": ({"name": "test_image_transforms:shifted", "by": 7}, lambda: lambda image: shifted(image, 7)),
}


def shifted(image, by):
    """Draws from the generators of numpy and Python, as other people's transforms may."""
    return image + by + np.random.randint(50) + random.randrange(50)


def grey_to_colour(image):
    return image.expand(3, -1, -1)


def halved(image):
    torch.rand(3)
    return image / 2


def spec_of(*chosen, **changes):
    return make_spec(penalty=None, augment={"crop_padding": 1, "flip": True, "transforms": list(chosen)}, **changes)


def obvious(images, seeds, transform):
    """Each image after the other, the generators seeded before each."""
    out = []
    for image, seed in zip(images, seeds.tolist(), strict=True):
        torch.manual_seed(seed), np.random.seed(seed % 2**32), random.seed(seed)
        out.append(transform(image))
    return torch.stack(out)


@pytest.mark.parametrize(("chosen", "theirs"), CASES.values(), ids=CASES)
def test_each_image_is_transformed_by_draws_of_its_own(chosen, theirs):
    spec, data = spec_of(chosen), make_dataset(channels=3)
    images, labels = torch.from_numpy(data.train.images), torch.from_numpy(data.train.labels)
    specs = with_seeds(spec, 3, 4)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    groups = list(DataLoader(specs, images, labels, "cpu", most=2).groups(1, 0, 5))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before[1:]
    transform = theirs()
    for row, seed in enumerate((3, 4)):
        order = torch.from_numpy(stream(seed, "order", 1).permutation(23))
        draws = draw(spec.augment, 23, seed, 1)
        seeds = torch.from_numpy(stream(seed, "augment-transforms", 1).integers(2**63 - 1, size=23))
        assert torch.equal(draws.seeds, seeds)
        plain = crop_and_flip(images[order], draws.take(order), 1)
        expected = obvious(plain, seeds[order], transform)
        seen = torch.cat([part[row].flatten(0, 1) for part, _ in groups])
        assert torch.equal(seen, expected)
        assert not torch.equal(seen, plain)


def test_crop_and_flip_are_drawn_as_without_other_transforms():
    plain = Augmentation(crop_padding=1, flip=True)
    first, second = (draw(one, 50, 3, 2) for one in (plain, plain.replace(transforms=[RAND])))
    assert all(torch.equal(getattr(first, name), getattr(second, name)) for name in ("top", "left", "flip"))
    assert first.seeds is None
    assert Augmentation(transforms=[RAND]).model_dump() == {"crop_padding": 0, "flip": False, "transforms": (RAND,)}


def test_seeds_train_alone_as_together():
    specs = with_seeds(spec_of(RAND, batch=5, epochs=2), 3, 4)
    assert_each_is_as_alone(specs, make_dataset(), [1, 10], steps=10)


@pytest.mark.parametrize(
    ("chosen", "why"),
    [
        ({"name": "RandAugmnt"}, "augment.transforms: RandAugmnt: no class of torchvision.transforms.v2.*RandAugment"),
        ({"name": "RandAugment", "ops": 3}, "RandAugment: ops: unknown key; allowed here: num_ops, magnitude"),
        ({"name": "AutoAugment", "policy": "cifar"}, "policy = 'cifar': allowed: imagenet, cifar10, svhn.*cifar10"),
        ({"name": "RandomErasing", "p": 7}, "RandomErasing: .*should be a floating point value"),
        ({"name": "RandomCrop"}, "RandomCrop: size must be given"),
        ({"name": "nowhere:nothing"}, "augmentation = 'nowhere:nothing': cannot be imported"),
    ],
)
def test_a_transform_that_cannot_be_is_one_line(chosen, why):
    with one_line(why):
        Trainer([spec_of(chosen)], make_dataset())


@pytest.mark.parametrize(
    ("chosen", "found"),
    [
        ({"name": "test_image_transforms:grey_to_colour"}, r"\(3, 8, 8\) of uint8"),
        ({"name": "Resize", "size": 4}, r"\(1, 4, 4\) of uint8"),
        ({"name": "test_image_transforms:halved"}, r"\(1, 8, 8\) of float32"),
    ],
)
def test_what_does_not_return_such_an_image_is_refused_and_leaves_the_generators(chosen, found):
    trainer, before = Trainer([spec_of(chosen)], make_dataset()), torch.get_rng_state()
    with one_line(rf"augment.transforms: .*: returns {found}; must be \(1, 8, 8\) of uint8"):
        trainer.step()
    assert torch.equal(torch.get_rng_state(), before)
