import numpy as np
import pytest
import torch
from conftest import cropped, make_dataset, make_spec

from whysgd.data.augmentation import crop_and_flip, draw
from whysgd.data.loader import DataLoader, fits, place
from whysgd.data.micro_batches import epoch_micro_batches

IMAGE = 8 * 8


def loader_of(spec, dataset, seeds=(3,), **arguments):
    images, labels = (torch.from_numpy(part) for part in (dataset.train.images, dataset.train.labels))
    return DataLoader([spec.replace(seed=seed) for seed in seeds], images, labels, "cpu", **arguments)


def obvious(spec, dataset, epoch):
    """The micro-batches of an epoch, image by image, with torchvision."""
    draws = draw(spec.augment, len(dataset.train.labels), spec.seed, epoch) if spec.augment else None
    found = []
    for numbers in epoch_micro_batches(spec, len(dataset.train.labels), epoch):
        images = []
        for i in numbers:
            image = torch.from_numpy(dataset.train.images[i])
            if draws:
                image = cropped(image, spec.augment.crop_padding, draws.top[i], draws.left[i], draws.flip[i])
            images.append(image)
        found.append((torch.stack(images), torch.from_numpy(dataset.train.labels[numbers])))
    return found


def flat(loader, epoch, first=0, end=5):
    """Images and labels of the first seed's micro-batches, in order."""
    parts = [(images[0].flatten(0, 1), labels[0].flatten()) for images, labels in loader.groups(epoch, first, end)]
    return [torch.cat(part) for part in zip(*parts, strict=True)]


@pytest.mark.parametrize("spec", [make_spec(), make_spec(augment=None), make_spec(shuffle=False, drop_last=True)])
@pytest.mark.parametrize("most", [1, 3])
@pytest.mark.parametrize("chunk", [1, 7 * IMAGE, 24 * IMAGE, 1 << 20])
@pytest.mark.parametrize("ahead", [False, True])
def test_every_epoch_of_each_seed_is_the_obvious_one_however_it_is_cut(dataset, spec, most, chunk, ahead):
    seeds = (3, 0)
    loader = loader_of(spec, dataset, seeds, most=most, chunk_bytes=chunk, ahead=ahead)
    for epoch in (0, 1, 5, 5):
        groups = list(loader.groups(epoch, 0, loader.micro_batches_per_epoch))
        for row, seed in enumerate(seeds):
            found = [pair for images, labels in groups for pair in zip(images[row], labels[row], strict=True)]
            expected = obvious(spec.replace(seed=seed), dataset, epoch)
            assert len(found) == len(expected) == loader.micro_batches_per_epoch
            for (x, y), (wanted, labels) in zip(found, expected, strict=True):
                assert torch.equal(x, wanted)
                assert torch.equal(y, labels)
    loader.close()


@pytest.mark.parametrize(("first", "end"), [(0, 5), (1, 4), (2, 5), (4, 5), (3, 3)])
def test_a_part_of_an_epoch_is_that_part_in_groups_of_equal_micro_batches(dataset, first, end):
    loader = loader_of(make_spec(), dataset, most=3, chunk_bytes=1)
    shapes = [labels.shape for _, labels in loader.groups(2, first, end)]
    assert sum(k for _, k, _ in shapes) == end - first
    assert all(k <= 3 for _, k, _ in shapes)
    if end > first:
        expected = torch.cat([images for images, _ in obvious(make_spec(), dataset, 2)[first:end]])
        assert torch.equal(flat(loader, 2, first, end)[0], expected)


def test_groups_keep_order_and_never_mix_sizes(dataset):
    shapes = [tuple(labels.shape) for _, labels in loader_of(make_spec(), dataset, most=3).groups(0, 0, 5)]
    assert shapes == [(1, 3, 5), (1, 1, 5), (1, 1, 3)]


def test_seeds_share_what_is_not_drawn(dataset):
    spec = make_spec(augment=None, shuffle=False)
    assert [len(labels) for _, labels in loader_of(spec, dataset, (0, 1, 2)).groups(0, 0, 1)] == [1]
    assert [len(labels) for _, labels in loader_of(make_spec(), dataset, (0, 1, 2)).groups(0, 0, 1)] == [3]


@pytest.mark.parametrize(
    ("images", "first", "end", "expected"),
    [(10, 0, 5, [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0)]),
     # A rank foresees its own micro-batches.
     (5, 1, 3, [(0, 1), (0, 2), (1, 1), (1, 2), (2, 1)])],
)  # fmt: skip
def test_a_chunk_that_was_foreseen_is_not_prepared_again(dataset, monkeypatch, images, first, end, expected):
    loader = loader_of(make_spec(), dataset, chunk_bytes=images * IMAGE, ahead=True)
    prepared, real = [], DataLoader._prepare
    monkeypatch.setattr(DataLoader, "_prepare", lambda self, key: prepared.append(key) or real(self, key))
    for epoch in (0, 1):
        list(loader.groups(epoch, first, end))
    loader.executor.shutdown()
    assert prepared == expected


def test_an_error_while_preparing_ahead_is_not_lost(dataset, monkeypatch):
    loader, real = loader_of(make_spec(), dataset, chunk_bytes=10 * IMAGE, ahead=True), DataLoader._prepare
    monkeypatch.setattr(DataLoader, "_prepare", lambda self, key: real(self, key) if key == (0, 0) else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(loader.groups(0, 0, 5))
    loader.close()


def test_where_images_lie():
    cpu = torch.device("cpu")
    assert fits(1 << 60, cpu)
    assert fits(1, cpu, "device")
    assert not fits(1, torch.device("cuda"), "host")


def test_images_that_are_not_contiguous_are_read_right():
    data, spec = make_dataset(), make_spec(augment=None)
    images = np.ascontiguousarray(data.train.images.transpose(1, 0, 2, 3)).transpose(1, 0, 2, 3)
    loader = DataLoader([spec], place(images, torch.device("cpu")), torch.from_numpy(data.train.labels), "cpu")
    assert torch.equal(next(loader.groups(0, 0, 1))[0][0, 0], obvious(spec, data, 0)[0][0])


@pytest.mark.parametrize("changes", [{}, {"augment": None, "shuffle": False}])
def test_single_images_are_those_of_the_groups(dataset, changes):
    spec = make_spec(batch=5, **changes)
    loader = loader_of(spec, dataset, (3, 0), most=2)
    places = [np.array([22, 0, 7, 7, 13]), np.array([1, 2, 3, 4, 5])]
    images, labels = loader.take(3, places)
    for row, seed in enumerate((3, 0)):
        x, y = flat(loader_of(spec, dataset, (seed,)), 3)
        assert torch.equal(images[row], x[places[row]])
        assert torch.equal(labels[row], y[places[row]])
    # Neither an epoch's order nor what it draws changes by looking at other images.
    before = flat(loader, 3)[0]
    loader.fresh([np.arange(5)] * 2, "watch-augment", 3)
    assert torch.equal(flat(loader, 3)[0], before)


def test_fresh_images_are_augmented_by_a_stream_of_their_own(dataset):
    loader, numbers = loader_of(make_spec(), dataset, (3, 0)), [np.array([3, 1, 20]), np.array([4, 4, 0])]
    images, labels = loader.fresh(numbers, "watch-augment", 5)
    for row, seed in enumerate((3, 0)):
        draws = draw(make_spec().augment, 23, seed, 5, purpose="watch-augment").take(torch.from_numpy(numbers[row]))
        assert torch.equal(images[row], crop_and_flip(torch.from_numpy(dataset.train.images[numbers[row]]), draws, 1))
        assert labels[row].tolist() == dataset.train.labels[numbers[row]].tolist()
    assert not torch.equal(images, loader.fresh(numbers, "watch-augment", 6)[0])
