"""Pictures larger than the model was trained on, painted block by block.

A window of the trained size moves over the large grid in steps of a part of its own size. In each
place the codes already painted are known, and the rest of the window is drawn given them, so the
cost is linear in the number of cells and every block sees what it has to join.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from taming.sampling import orders
from taming.sampling.autoregressive import UNKNOWN, NextLogits, sample
from taming.sampling.filters import Filters
from taming.sampling.parallel import group_sizes


class Window(NamedTuple):
    """A rectangle of cells of the large grid."""

    top: int
    left: int
    height: int
    width: int


def window_places(
    grid: tuple[int, int], window: tuple[int, int], stride: tuple[int, int]
) -> list[Window]:
    """Windows in raster order that cover the grid; the last of a row or column is flush with it."""
    for size, step in zip(window, stride, strict=True):
        if not 1 <= step <= size:
            raise ValueError(f"a stride of {step} cells leaves gaps between windows of {size}")
    height, width = (min(size, limit) for size, limit in zip(window, grid, strict=True))
    return [
        Window(top, left, height, width)
        for top in _starts(grid[0], height, stride[0])
        for left in _starts(grid[1], width, stride[1])
    ]


def sample_windows(
    next_logits_at: Callable[[Window], NextLogits],  # a fresh decoder for each place
    known: Tensor,  # (B, H, W) int64 codes of the large grid, UNKNOWN where they are to be drawn
    window: tuple[int, int],  # the trained grid, h x w
    stride: tuple[int, int],  # how far the window moves, in cells
    steps: int | None = None,  # steps for a whole window; fewer where part of it is known
    filters: Filters = Filters(),  # noqa: B008 - frozen
    generators: Sequence[torch.Generator] = (),
    callback: Callable[[int, int], None] | None = None,  # windows done, windows in all
) -> Tensor:
    """Codes (B, H, W). In each window the images of one batch must know equally many cells."""
    if steps is not None and steps < 1:
        raise ValueError(f"steps is {steps}; give at least 1, or none for one code at a time")
    codes = known.clone()
    places = window_places((codes.shape[1], codes.shape[2]), window, stride)
    for done, place in enumerate(places, start=1):
        rows = slice(place.top, place.top + place.height)
        columns = slice(place.left, place.left + place.width)
        block = codes[:, rows, columns].flatten(1)  # (B, T)
        unknown = int((block == UNKNOWN).sum(1).amax())
        if unknown:
            cells = block.shape[1]
            block_steps = None if steps is None else max(1, round(steps * unknown / cells))
            order = spread_orders(place.height, place.width, generators, block.device)
            block = sample(
                next_logits_at(place),
                block,
                orders.known_first(order, block != UNKNOWN),
                group_sizes(unknown, block_steps),
                filters,
                generators,
            )
            codes[:, rows, columns] = block.unflatten(1, (place.height, place.width))
        if callback is not None:
            callback(done, len(places))
    return codes


def spread_orders(
    height: int, width: int, generators: Sequence[torch.Generator], device: torch.device | str
) -> Tensor:
    """One spread order (B, T) for each generator."""
    return torch.stack([orders.spread(height, width, each) for each in generators]).to(device)


def _starts(limit: int, size: int, stride: int) -> list[int]:
    return sorted({*range(0, limit - size, stride), limit - size})
