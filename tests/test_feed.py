import numpy as np
import pytest
import torch
from conftest import make_dataset, make_spec
from torchvision.transforms import functional as tv

from whysgd.data.augmentation import crop_and_flip, draw
from whysgd.data.blocks import epoch_blocks
from whysgd.data.feed import Feed, fits

IMAGE = 8 * 8


def feed(spec, dataset, **arguments):
    return Feed(spec, dataset.train.images, dataset.train.labels, "cpu", **arguments)


def obvious(spec, dataset, epoch):
    """The blocks of an epoch, image by image, with torchvision."""
    draws = draw(spec.augment, len(dataset.train.labels), spec.seed, epoch) if spec.augment else None
    blocks = []
    for block in epoch_blocks(spec, len(dataset.train.labels), epoch):
        images = []
        for i in block:
            image = torch.from_numpy(dataset.train.images[i])
            if draws:
                image = tv.crop(tv.pad(image, [spec.augment.crop_padding]), draws.top[i], draws.left[i], 8, 8)
                image = tv.hflip(image) if draws.flip[i] else image
            images.append(image)
        blocks.append((torch.stack(images), torch.from_numpy(dataset.train.labels[block])))
    return blocks


@pytest.mark.parametrize("spec", [make_spec(), make_spec(augment=None), make_spec(shuffle=False, drop_last=True)])
@pytest.mark.parametrize("most", [1, 2, 3])
@pytest.mark.parametrize("chunk", [1, 7 * IMAGE, 12 * IMAGE, 1 << 20])
@pytest.mark.parametrize("ahead", [False, True])
def test_every_epoch_is_the_obvious_one_however_it_is_cut(dataset, spec, most, chunk, ahead):
    loader = feed(spec, dataset, most=most, chunk_bytes=chunk, ahead=ahead)
    for epoch in (0, 1, 5, 5):
        expected = obvious(spec, dataset, epoch)
        found = [
            (x, y) for images, labels in loader.stacks(epoch, 0, loader.blocks)
            for x, y in zip(images, labels, strict=True)
        ]  # fmt: skip
        assert len(found) == len(expected) == loader.blocks
        for (x, y), (wanted, labels) in zip(found, expected, strict=True):
            assert torch.equal(x, wanted)
            assert torch.equal(y, labels)


@pytest.mark.parametrize(("first", "end"), [(0, 5), (1, 4), (2, 5), (4, 5), (3, 3)])
def test_a_part_of_an_epoch_is_that_part_in_stacks_of_equal_blocks(dataset, first, end):
    loader = feed(make_spec(), dataset, most=3, chunk_bytes=1)
    stacks = list(loader.stacks(2, first, end))
    expected = obvious(make_spec(), dataset, 2)[first:end]
    assert sum(len(labels) for _, labels in stacks) == end - first
    assert all(len(labels) <= 3 for _, labels in stacks)
    flat = torch.cat([images.flatten(0, 1) for images, _ in stacks]) if stacks else torch.empty(0)
    assert flat.tolist() == torch.cat([images for images, _ in expected] or [torch.empty(0)]).tolist()


def test_stacks_keep_order_and_never_mix_sizes(dataset):
    shapes = [tuple(labels.shape) for _, labels in feed(make_spec(), dataset, most=3).stacks(0, 0, 5)]
    assert shapes == [(3, 5), (1, 5), (1, 3)]
    assert [len(labels) for _, labels in feed(make_spec(), dataset).stacks(0, 0, 5)] == [1] * 5


@pytest.mark.parametrize(
    ("images", "first", "end", "expected"),
    [(10, 0, 5, [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0)]),
     # A rank foresees its own blocks.
     (5, 1, 3, [(0, 1), (0, 2), (1, 1), (1, 2), (2, 1)])],
)  # fmt: skip
def test_a_chunk_that_was_foreseen_is_not_prepared_again(dataset, monkeypatch, images, first, end, expected):
    loader = feed(make_spec(), dataset, chunk_bytes=images * IMAGE, ahead=True)
    prepared, real = [], Feed._prepare
    monkeypatch.setattr(Feed, "_prepare", lambda self, key: prepared.append(key) or real(self, key))
    for epoch in (0, 1):
        list(loader.stacks(epoch, first, end))
    loader.executor.shutdown()
    assert prepared == expected


def test_an_error_while_preparing_ahead_is_not_lost(dataset, monkeypatch):
    loader = feed(make_spec(), dataset, chunk_bytes=10 * IMAGE, ahead=True)
    stacks = loader.stacks(0, 0, 5)
    next(stacks)
    loader.executor.shutdown(wait=True)
    monkeypatch.setattr(Feed, "_prepare", lambda self, key: 1 / 0)
    with pytest.raises((ZeroDivisionError, RuntimeError)):
        list(stacks)


def test_where_images_lie():
    cpu = torch.device("cpu")
    assert fits(1 << 60, cpu)
    assert fits(1, cpu, "device")
    assert not fits(1, torch.device("cuda"), "host")


def test_images_that_are_not_contiguous_are_read_right():
    data = make_dataset()
    images = np.ascontiguousarray(data.train.images.transpose(1, 0, 2, 3)).transpose(1, 0, 2, 3)
    spec = make_spec(augment=None)
    loader = Feed(spec, images, data.train.labels, "cpu")
    assert torch.equal(next(iter(loader.stacks(0, 0, 1)))[0][0], obvious(spec, data, 0)[0][0])


@pytest.mark.parametrize("images_on", ["device", "host"])
def test_single_images_are_those_of_the_stacks(dataset, images_on):
    spec = make_spec(macro_batch=5)
    feed = Feed(spec, dataset.train.images, dataset.train.labels, "cpu", most=2, images_on=images_on)
    stacks = [(i.flatten(0, 1), y.flatten()) for i, y in feed.stacks(3, 0, 5)]
    images, labels = (torch.cat(parts) for parts in zip(*stacks, strict=True))
    places = np.array([22, 0, 7, 7, 13])
    taken = feed.take(3, places)
    assert torch.equal(taken[0], images[places])
    assert torch.equal(taken[1], labels[places])
    # Neither an epoch's order nor what it draws changes by looking at other images.
    feed.fresh(np.arange(5), "watch-augment", 3)
    again = torch.cat([i.flatten(0, 1) for i, _ in feed.stacks(3, 0, 5)])
    assert torch.equal(again, images)


def test_fresh_images_are_augmented_by_a_stream_of_their_own(dataset):
    feed = Feed(make_spec(), dataset.train.images, dataset.train.labels, "cpu")
    numbers = np.array([3, 1, 20])
    images, labels = feed.fresh(numbers, "watch-augment", 5)
    draws = draw(make_spec().augment, 23, make_spec().seed, 5, purpose="watch-augment").take(torch.from_numpy(numbers))
    assert torch.equal(images, crop_and_flip(torch.from_numpy(dataset.train.images[numbers]), draws, 1))
    assert labels.tolist() == dataset.train.labels[numbers].tolist()
    assert not torch.equal(images, feed.fresh(numbers, "watch-augment", 6)[0])
