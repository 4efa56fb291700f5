"""Laws of the published orders: there and back, keys, and the orders themselves."""

import pytest
import torch

from taming.transformer.permuter import (
    AbstractPermuter,
    AlternateParsing,
    Identity,
    Random,
    SpiralIn,
    SpiralOut,
    Subsample,
    ZCurve,
)

SHUFFLES = (Subsample, ZCurve, SpiralOut, SpiralIn, Random, AlternateParsing)
# Where the cells of a 4x4 grid stand in the sequence, row by row.
PLACES = {
    Subsample: [[0, 4, 1, 5], [8, 12, 9, 13], [2, 6, 3, 7], [10, 14, 11, 15]],
    ZCurve: [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]],
    SpiralOut: [[9, 10, 11, 12], [8, 1, 2, 13], [7, 0, 3, 14], [6, 5, 4, 15]],
    SpiralIn: [[6, 5, 4, 3], [7, 14, 13, 2], [8, 15, 12, 1], [9, 10, 11, 0]],
    AlternateParsing: [[0, 1, 2, 3], [7, 6, 5, 4], [8, 9, 10, 11], [15, 14, 13, 12]],
}


@pytest.mark.parametrize("kind", SHUFFLES)
def test_there_and_back_is_where_it_began(kind) -> None:
    codes = torch.randint(100, (3, 16), generator=torch.Generator().manual_seed(0))
    order = kind(4, 4)
    assert not torch.equal(order(codes), codes)
    assert torch.equal(order(order(codes), reverse=True), codes)
    assert torch.equal(order(order(codes, reverse=True)), codes)


@pytest.mark.parametrize("kind", PLACES)
def test_the_order_is_the_published_one(kind) -> None:
    cells = torch.arange(16)[None]
    places = kind(4, 4)(cells, reverse=True)
    assert places.reshape(4, 4).tolist() == PLACES[kind]


def test_random_is_one_order_for_ever() -> None:
    assert Random(2, 3).forward_shuffle_idx.tolist() == [2, 1, 4, 0, 3, 5]


@pytest.mark.parametrize("kind", [ZCurve, Random, AlternateParsing])
@pytest.mark.parametrize("size", [(2, 3), (3, 5), (4, 2)])
def test_grids_need_not_be_square(kind, size) -> None:
    codes = torch.arange(size[0] * size[1])[None]
    order = kind(*size)
    assert torch.equal(order(order(codes), reverse=True), codes)


@pytest.mark.parametrize("kind", [Subsample, SpiralOut, SpiralIn])
@pytest.mark.parametrize("size", [(4, 8), (3, 3)])
def test_orders_that_need_a_square_say_so(kind, size) -> None:
    with pytest.raises(ValueError, match=f"{kind.__name__} needs .*not {size[0]}x{size[1]}"):
        kind(*size)


@pytest.mark.parametrize("kind", SHUFFLES)
def test_buffers_have_the_published_names(kind) -> None:
    state = kind(2, 2).state_dict()
    assert list(state) == ["forward_shuffle_idx", "backward_shuffle_idx"]
    assert all(entry.dtype == torch.int64 for entry in state.values())


def test_identity_leaves_everything_as_it_is_and_no_keys() -> None:
    codes = torch.arange(5)[None]
    assert Identity()(codes) is codes
    assert Identity()(codes, reverse=True) is codes
    assert Identity().state_dict() == {}


def test_every_permuter_has_one_base() -> None:
    assert all(issubclass(kind, AbstractPermuter) for kind in (Identity, *SHUFFLES))
    with pytest.raises(TypeError, match=r"AbstractPermuter.* forward"):
        AbstractPermuter()  # pyright: ignore[reportAbstractUsage]


def test_a_sequence_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="ZCurve is for 16 tokens, the sequence has 12"):
        ZCurve(4, 4)(torch.zeros(1, 12))
