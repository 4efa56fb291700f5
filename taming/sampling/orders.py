"""Orders in which the cells of a grid are painted, as permutations of raster indices.

`spread` is the low-discrepancy order of parallel decoding: any run of consecutive cells lies
scattered over the grid, so that codes drawn together are nearly independent. Neighbours that are
drawn together without care ruin a picture.

Sources: Halton 1960; its use for parallel decoding of codes, Besnier et al. 2025
(arXiv 2503.17076), section 3.2.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


def raster(height: int, width: int) -> Tensor:
    """Row by row, left to right: (h*w,) int64."""
    return torch.arange(height * width)


def random(height: int, width: int, generator: torch.Generator) -> Tensor:
    """A uniformly random permutation: (h*w,) int64."""
    return torch.randperm(height * width, generator=generator)


def spread(height: int, width: int, generator: torch.Generator | None = None) -> Tensor:
    """The Halton order of the grid: (h*w,) int64; a generator shifts and mirrors it at random."""
    order = torch.tensor(_halton_order(height, width))
    if generator is None:
        return order
    row, column = order // width, order % width
    shift_row, shift_column, mirror = torch.randint(0, 1 << 30, (3,), generator=generator).tolist()
    row, column = (row + shift_row) % height, (column + shift_column) % width
    if mirror & 1:
        row = height - 1 - row
    if mirror & 2:
        column = width - 1 - column
    return row * width + column


def known_first(order: Tensor, known: Tensor) -> Tensor:
    """The same order with the known cells moved to the front.

    order (T,) or (B, T); known bool of the same shape, indexed by cell. Both parts keep their
    order among themselves.
    """
    is_unknown = ~known.gather(-1, order)
    return order.gather(-1, is_unknown.to(torch.int8).argsort(dim=-1, stable=True))


def invert(order: Tensor) -> Tensor:
    """The place of every cell in the order: invert(order)[order[i]] = i; (T,) or (B, T)."""
    return order.argsort(-1)


@lru_cache(maxsize=64)
def _halton_order(height: int, width: int) -> tuple[int, ...]:
    """Cells in the order in which the two-dimensional Halton sequence first hits them."""
    total = height * width
    seen: dict[int, None] = {}
    for index in range(1, 40 * total + 1):
        row = int(_radical_inverse(index, 2) * height)
        column = int(_radical_inverse(index, 3) * width)
        seen.setdefault(row * width + column)
        if len(seen) == total:
            break
    for cell in range(total):  # cells that the finite sequence missed
        seen.setdefault(cell)
    return tuple(seen)


def _radical_inverse(index: int, base: int) -> float:
    """The digits of `index` in this base, mirrored behind the point: a number in [0, 1)."""
    value, digit_weight = 0.0, 1.0 / base
    while index:
        index, digit = divmod(index, base)
        value += digit * digit_weight
        digit_weight /= base
    return value
