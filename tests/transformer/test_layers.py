"""Laws of the parts: positions, masks, attention with and without a cache."""

import pytest
import torch

from taming.transformer.cache import KVCache
from taming.transformer.layers import (
    Block,
    QueryBlock,
    SwiGLU,
    attend,
    causal_mask,
    grid_rotation,
    rotate,
)

CPU = torch.device("cpu")


def test_products_of_rotated_vectors_depend_on_the_offset_of_their_cells_only() -> None:
    table = grid_rotation(5, 7, 8, CPU)
    q, k = torch.randn(2, 1, 1, 1, 8, generator=torch.Generator().manual_seed(0))

    def product(one: tuple[int, int], other: tuple[int, int]) -> float:
        cells = torch.tensor([[row * 7 + column for row, column in (one, other)]])
        at = table.at(cells)
        both = rotate(torch.cat([q, k], dim=2), at)[0, 0]
        return float(both[0] @ both[1])

    assert product((0, 0), (2, 3)) == pytest.approx(product((2, 3), (4, 6)), abs=1e-5)
    assert product((0, 0), (2, 3)) != pytest.approx(product((0, 0), (3, 2)), abs=1e-3)
    assert product((0, 0), (0, 1)) != pytest.approx(product((0, 0), (1, 0)), abs=1e-3)


def test_rotation_keeps_lengths() -> None:
    x = torch.randn(2, 3, 12, 8)
    turned = rotate(x, grid_rotation(3, 4, 8, CPU))
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))


def test_tokens_in_front_are_not_rotated() -> None:
    padded = grid_rotation(2, 3, 8, CPU).pad_front(2)
    x = torch.randn(1, 1, 8, 8)
    assert torch.equal(rotate(x, padded)[:, :, :2], x[:, :, :2])
    assert not torch.allclose(rotate(x, padded)[:, :, 2:], x[:, :, 2:])


@pytest.mark.parametrize(("queries", "keys"), [(2, 2), (3, 5), (1, 4)])
def test_the_last_query_stands_at_the_last_key(queries: int, keys: int) -> None:
    mask = causal_mask(queries, keys, CPU)
    mask = torch.ones(1, keys, dtype=torch.bool) if mask is None else mask
    for i in range(queries):
        assert mask[i].sum() == keys - queries + i + 1


def test_causal_attention_is_the_mask() -> None:
    q, k, v = torch.randn(3, 2, 2, 5, 4)
    masked = attend(q, k, v, mask=causal_mask(5, 5, CPU))
    torch.testing.assert_close(attend(q, k, v, causal=True), masked)


@pytest.mark.parametrize("cuts", [[6], [1, 1, 1, 1, 1, 1], [3, 1, 2]])
def test_a_block_in_pieces_with_a_cache_is_the_block_at_once(cuts: list[int]) -> None:
    torch.manual_seed(0)
    block, x, table = Block(16, 2).eval(), torch.randn(2, 6, 16), grid_rotation(2, 3, 8, CPU)
    whole = block(x, table, causal=True)
    cache = KVCache(1, 2, 2, 6, 8, torch.float32, CPU)
    pieces, done = [], 0
    for size in cuts:
        part = table.at(torch.arange(done, done + size).expand(2, -1))
        pieces.append(block(x[:, done : done + size], part, causal=True, cache=cache.layer(0)))
        cache.advance(size)
        done += size
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, atol=1e-5, rtol=1e-5)


def test_a_cache_that_is_full_says_so() -> None:
    cache = KVCache(1, 1, 1, 3, 4, torch.float32, CPU)
    with pytest.raises(ValueError, match="4 tokens do not fit a cache of 3"):
        cache.layer(0).extend(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4))


def test_queries_do_not_see_one_another() -> None:
    torch.manual_seed(0)
    block = QueryBlock(16, 2).eval()
    table = grid_rotation(2, 3, 8, CPU)
    content = block.project_content(torch.randn(1, 4, 16), table.at(torch.arange(4)[None]))
    x, targets = torch.randn(1, 3, 16), table.at(torch.tensor([[3, 4, 5]]))
    together = block(x, targets, content, causal=False)
    x[:, 2] += 1.0
    assert torch.equal(block(x, targets, content, causal=False)[:, :2], together[:, :2])


def test_causal_queries_see_one_key_more_each() -> None:
    torch.manual_seed(0)
    block = QueryBlock(16, 2).eval()
    keys, values = torch.randn(2, 1, 2, 5, 8)
    table = grid_rotation(1, 3, 8, CPU)
    x = torch.randn(1, 3, 16)
    out = block(x, table, (keys, values), causal=True)
    for i in range(3):
        seen = (keys[:, :, : i + 3], values[:, :, : i + 3])
        one = block(x[:, i : i + 1], table.at(torch.tensor([[i]])), seen, causal=False)
        torch.testing.assert_close(out[:, i : i + 1], one, atol=1e-5, rtol=1e-5)


def test_the_hidden_width_is_a_multiple_of_32() -> None:
    for width in (8, 32, 100, 192):
        assert SwiGLU(width).down.in_features % 32 == 0
