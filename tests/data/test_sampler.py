"""Batches follow from (seed, epoch); every picture gets its turn; any batch can be the first."""

from collections import Counter

import pytest

from taming.data.sampler import BatchSampler, InOrder

SQUARE, WIDE = (16, 16), (16, 32)


def batches(sampler: BatchSampler, epoch: int) -> list[list[tuple[int, int]]]:
    sampler.set_epoch(epoch)
    return list(sampler)


def make(**options) -> BatchSampler:
    settings = {"lengths": [10, 6], "sizes": [SQUARE, SQUARE], "weights": [10, 6], "batch_size": 4}
    return BatchSampler(**(settings | options))


def test_epochs_follow_from_seed_and_number() -> None:
    assert batches(make(), 3) == batches(make(), 3)
    assert batches(make(), 3) != batches(make(), 4)
    assert batches(make(), 3) != batches(make(seed=1), 3)


def test_without_weights_every_picture_comes_once_an_epoch() -> None:
    for epoch in range(3):
        drawn = Counter(index for batch in batches(make(), epoch) for index in batch)
        assert drawn == Counter({(index, epoch): 1 for index in range(16)})


def test_weights_are_shares_of_what_is_drawn() -> None:
    sampler = make(weights=[1, 3], epoch_size=32)
    drawn = Counter(index < 10 for batch in batches(sampler, 0) for index, _ in batch)
    assert drawn == {True: 8, False: 24}


def test_a_picture_is_drawn_anew_each_time_it_comes() -> None:
    """A small heavy set passes several times an epoch; equal draws would be equal pictures."""
    sampler = make(weights=[1, 3], epoch_size=64)
    drawn = Counter(i for epoch in range(4) for b in batches(sampler, epoch) for i in b)
    assert set(drawn.values()) == {1}


def test_all_pictures_of_a_set_come_equally_often() -> None:
    sampler = make(weights=[3, 1], epoch_size=16)
    drawn = Counter(i for epoch in range(5) for b in batches(sampler, epoch) for i, _ in b)
    assert {drawn[index] for index in range(10)} == {6}  # 5 epochs of 12 from 10 pictures
    assert {drawn[index] for index in range(10, 16)} <= {3, 4}


def test_a_batch_has_pictures_of_one_size() -> None:
    sampler = make(sizes=[SQUARE, WIDE], epoch_size=40)
    kinds = [{index < 10 for index, _ in batch} for batch in batches(sampler, 0)]
    assert all(len(kind) == 1 for kind in kinds)
    assert len(kinds) == len(sampler) == 10
    assert {True} in kinds
    assert {False} in kinds


def test_a_size_of_few_pictures_has_its_turn_in_every_epoch() -> None:
    """Its share of the batches was rounded to none, in every epoch."""
    sampler = BatchSampler([1000, 3], [SQUARE, WIDE], [1000, 3], batch_size=8)
    for epoch in range(2):
        drawn = [index for batch in batches(sampler, epoch) for index, _ in batch]
        assert sum(index >= 1000 for index in drawn) == 8
    few = BatchSampler([5, 5], [SQUARE, WIDE], [5, 5], batch_size=16)
    assert len(batches(few, 0)) == len(few) == 2


def test_a_light_set_beside_others_of_its_size_has_its_turn() -> None:
    sampler = make(weights=[1000, 1], epoch_size=16)
    assert sum(index >= 10 for batch in batches(sampler, 0) for index, _ in batch) == 1


def test_resuming_skips_what_was_seen_in_that_epoch_only() -> None:
    whole = batches(make(), 2)
    sampler = make()
    sampler.resume_at(2, 3)
    assert list(sampler) == whole[3:]
    assert len(sampler) == len(whole)
    assert batches(sampler, 3) == batches(make(), 3)


def test_devices_share_the_pictures_of_each_step() -> None:
    alone = batches(make(batch_size=4), 1)
    shared = [batches(make(batch_size=2, rank=rank, replicas=2), 1) for rank in (0, 1)]
    assert [first + second for first, second in zip(*shared, strict=True)] == alone


def test_sets_smaller_than_a_batch_are_repeated() -> None:
    sampler = BatchSampler([2], [SQUARE], [1], batch_size=6)
    assert [sorted(batch) for batch in batches(sampler, 0)] == [
        [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    ]


def test_a_weight_of_zero_leaves_a_set_out() -> None:
    assert all(index < 10 for batch in batches(make(weights=[1, 0]), 0) for index, _ in batch)


def test_resuming_outside_an_epoch_is_an_error() -> None:
    with pytest.raises(ValueError, match="batch 5 of an epoch of 4"):
        make().resume_at(0, 5)


def test_validation_shows_every_picture_once() -> None:
    order = InOrder([5, 3], [SQUARE, WIDE], batch_size=2)
    assert [[index for index, _ in batch] for batch in order] == [[0, 1], [2, 3], [4], [5, 6], [7]]


def test_no_device_is_left_without_validation() -> None:
    """Lightning refuses an empty loader, and all devices wait for one that has none."""
    shared = [list(InOrder([5], [SQUARE], 4, rank=rank, replicas=4)) for rank in range(4)]
    first, second = [[(0, 0), (1, 0), (2, 0), (3, 0)]], [[(4, 0)]]
    assert shared == [first, second, first, first]
    assert list(InOrder([], [], 4, rank=1, replicas=2)) == []


def test_limited_validation_spreads_over_the_set() -> None:
    order = InOrder([9], [SQUARE], batch_size=3, limit=3)
    assert list(order) == [[(0, 0), (4, 0), (8, 0)]]
