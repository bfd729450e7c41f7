import numpy as np
import pytest
import torch
from conftest import cropped
from torchvision.transforms import functional as tv

from whysgd.data.augmentation import Draws, Normalizer, crop_and_flip, draw
from whysgd.study.spec import Augmentation


@pytest.mark.parametrize(("channels", "height", "width", "padding"), [(3, 8, 8, 2), (1, 5, 7, 1), (2, 4, 4, 0)])
def test_crop_and_flip_are_torchvisions_at_every_offset(channels, height, width, padding):
    offsets = range(2 * padding + 1)
    cases = [(top, left, flip) for top in offsets for left in offsets for flip in (False, True)]
    images = torch.randint(0, 256, (len(cases), channels, height, width), dtype=torch.uint8)
    top, left, flip = (torch.tensor(values) for values in zip(*cases, strict=True))
    ours = crop_and_flip(images, Draws(top, left, flip), padding)
    for image, result, case in zip(images, ours, cases, strict=True):
        assert torch.equal(result, cropped(image, padding, *case)), case


def test_padding_is_black_before_normalization():
    images = torch.full((1, 1, 4, 4), 255, dtype=torch.uint8)
    corner = Draws(torch.tensor([0]), torch.tensor([0]), torch.tensor([False]))
    out = Normalizer([0.5], [0.25])(crop_and_flip(images, corner, 1))
    assert out[0, 0, 0, 0] == pytest.approx(-2.0)
    assert out[0, 0, 1, 1] == pytest.approx(2.0)


def test_normalization_is_torchvisions():
    images = torch.randint(0, 256, (5, 3, 6, 6), dtype=torch.uint8)
    mean, std = (0.49147, 0.48226, 0.44677), (0.24703, 0.24349, 0.26159)
    expected = tv.normalize(images.double() / 255, mean, std)
    torch.testing.assert_close(Normalizer(mean, std, torch.float64)(images), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(Normalizer(mean, std)(images).double(), expected, rtol=1e-5, atol=1e-5)


def test_draws_cover_all_offsets_evenly_and_depend_on_seed_and_epoch_only():
    draws = draw(Augmentation(crop_padding=2, flip=True), 20_000, seed=1, epoch=4)
    for offsets in (draws.top, draws.left):
        counts = np.bincount(offsets.numpy(), minlength=5)
        assert counts.min() > 0.9 * 4000
        assert counts.max() < 1.1 * 4000
    assert 0.48 < draws.flip.double().mean() < 0.52
    again = draw(Augmentation(crop_padding=2, flip=True), 20_000, seed=1, epoch=4)
    assert torch.equal(draws.top, again.top)
    assert torch.equal(draws.flip, again.flip)
    assert not torch.equal(draws.top, draw(Augmentation(crop_padding=2, flip=True), 20_000, seed=1, epoch=5).top)
    assert not torch.equal(draws.top, draw(Augmentation(crop_padding=2, flip=True), 20_000, seed=2, epoch=4).top)
    assert not draw(Augmentation(crop_padding=2, flip=False), 100, seed=1, epoch=4).flip.any()
