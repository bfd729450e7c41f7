import numpy as np
import pytest
from conftest import make_spec

from whysgd.data.micro_batches import epoch_micro_batches, step_range
from whysgd.study.length import micro_batches_per_epoch, steps_per_epoch


@pytest.mark.parametrize(("drop_last", "sizes"), [(True, [5, 5, 5, 5]), (False, [5, 5, 5, 5, 3])])
def test_micro_batches_of_an_epoch(drop_last, sizes):
    spec = make_spec(drop_last=drop_last)
    found = epoch_micro_batches(spec, 23, epoch=2)
    assert [len(block) for block in found] == sizes
    assert len(found) == micro_batches_per_epoch(spec, 23)
    assert len(set(np.concatenate(found))) == sum(sizes)


def test_without_shuffle_micro_batches_are_in_data_set_order_in_every_epoch():
    spec = make_spec(shuffle=False)
    for epoch in (0, 1):
        assert np.concatenate(epoch_micro_batches(spec, 23, epoch)).tolist() == list(range(23))


def test_with_shuffle_each_epoch_and_seed_has_its_own_order():
    def order(seed, epoch):
        return np.concatenate(epoch_micro_batches(make_spec(seed=seed), 23, epoch)).tolist()

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)


def test_a_step_takes_one_micro_batch_several_or_all():
    sgd = make_spec(batch=5)
    assert steps_per_epoch(sgd, 23) == 5
    assert [step_range(sgd, 5, step) for step in range(5)] == [(i, i + 1) for i in range(5)]
    macro = make_spec(batch=10)
    assert steps_per_epoch(macro, 23) == 3
    # The last macro-batch has what is left: one block of three images.
    assert [step_range(macro, 5, step) for step in range(3)] == [(0, 2), (2, 4), (4, 5)]
    full = make_spec()
    assert steps_per_epoch(full, 23) == 1
    assert step_range(full, 5, 0) == (0, 5)


def test_novacks_epoch_has_33_micro_batches_in_its_last_step():
    spec = make_spec(batch=5120, micro_batch=128, drop_last=False)
    found = epoch_micro_batches(spec, 40_000, 0)
    assert steps_per_epoch(spec, 40_000) == 8
    first, end = step_range(spec, len(found), 7)
    assert (end - first, len(found[-1])) == (33, 64)
