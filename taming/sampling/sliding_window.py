"""Pictures larger than the model was trained on, painted through a window of the trained size.

Block rule: the window moves over the large grid in steps of a part of its own size. In each place
the codes already painted are known, and the rest of the window is drawn given them, so the cost is
linear in the number of cells and every block sees what it has to join.

Published rule (arXiv 2012.09841, section 3.3 and figure 3): every cell has a window of its own, in
which it stands in the middle unless a border is near. It costs one window for each cell.

`sample_windows` is for models that paint a window in any order, `sample_sequence` for those that
know one order, by either rule. Both end in `sample`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from taming.sampling import orders
from taming.sampling.autoregressive import UNKNOWN, NextLogits, sample
from taming.sampling.filters import Filters
from taming.sampling.parallel import group_sizes

WindowRule = Literal["published", "block"]


class Window(NamedTuple):
    """A rectangle of cells of the large grid."""

    top: int
    left: int
    height: int
    width: int

    @property
    def rows(self) -> slice:
        return slice(self.top, self.top + self.height)

    @property
    def columns(self) -> slice:
        return slice(self.left, self.left + self.width)


class Visit(NamedTuple):
    """A window, and which of its places are painted in it: those from `start` to `stop`."""

    place: Window
    start: int
    stop: int


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
        block = codes[:, place.rows, place.columns].flatten(1)  # (B, T)
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
            codes[:, place.rows, place.columns] = block.unflatten(1, place[2:])
        if callback is not None:
            callback(done, len(places))
    return codes


def published_visits(grid: tuple[int, int], window: tuple[int, int]) -> list[Visit]:
    """The window of every cell in raster order; neighbours that share one are one visit.

    In a window of 16 the cell has index 8, unless it is within 8 of a border. `start` and `stop`
    are raster indices within the window.
    """
    height, width = (min(size, limit) for size, limit in zip(window, grid, strict=True))
    visits: list[Visit] = []
    for row in range(grid[0]):
        for column in range(grid[1]):
            top, left = _centred(row, grid[0], height), _centred(column, grid[1], width)
            place = Window(top, left, height, width)
            local = (row - top) * width + column - left
            if visits and visits[-1].place == place and visits[-1].stop == local:
                visits[-1] = visits[-1]._replace(stop=local + 1)
            else:
                visits.append(Visit(place, local, local + 1))
    return visits


def sample_sequence(
    next_logits_at: Callable[[Window], NextLogits],  # a fresh decoder for each window
    known: Tensor,  # (B, H, W) int64 codes of the large grid, UNKNOWN where they are to be drawn
    window: tuple[int, int],  # the trained grid, h x w
    rule: WindowRule = "published",
    stride: tuple[int, int] | None = None,  # of the block rule; half a window if not given
    order: Tensor | None = None,  # (T,) cell of each place in the model's sequence; raster if None
    filters: Filters = Filters(),  # noqa: B008 - frozen
    generators: Sequence[torch.Generator] = (),
    callback: Callable[[int, int], None] | None = None,  # cells drawn, cells to draw
) -> Tensor:
    """Codes (B, H, W) from a model that knows one order; its positions are places in that order.

    A cell is drawn given what stands before it in the sequence of its window, whether known or
    painted; known cells behind it stay, unseen. All images of a batch must know the same cells.
    """
    if bool(((known == UNKNOWN) != (known[:1] == UNKNOWN)).any()):
        raise ValueError("images of a batch know different cells; paint them apart")
    codes, drawn, total = known.clone(), 0, int((known[0] == UNKNOWN).sum())

    def count(step: int, sequence: Tensor) -> None:
        nonlocal drawn
        drawn += 1
        if callback is not None:
            callback(drawn, total)

    for place, start, stop in _visits(known, window, rule, stride, order):
        block = codes[:, place.rows, place.columns].flatten(1)  # (B, T) by cell
        cells = orders.raster(place.height, place.width) if order is None else order
        cells = cells.to(block.device)
        sequence = block[:, cells]  # (B, T) by place in the sequence
        runs = _unknown_runs(sequence[0, start:stop] == UNKNOWN, start)
        if not runs:
            continue
        next_logits, fed = next_logits_at(place), 0
        for first, last in runs:
            sequence[:, :last] = sample(
                next_logits,
                sequence[:, :last],
                torch.arange(last, device=block.device).expand(len(block), -1),
                [1] * (last - first),
                filters,
                generators,
                count,
                fed,
            )
            fed = last - 1  # the last code drawn has not been fed
        painted = sequence[:, orders.invert(cells)]  # by cell again
        codes[:, place.rows, place.columns] = painted.unflatten(1, place[2:])
    return codes


def spread_orders(
    height: int, width: int, generators: Sequence[torch.Generator], device: torch.device | str
) -> Tensor:
    """One spread order (B, T) for each generator."""
    return torch.stack([orders.spread(height, width, each) for each in generators]).to(device)


def _starts(limit: int, size: int, stride: int) -> list[int]:
    return sorted({*range(0, limit - size, stride), limit - size})


def _visits(
    known: Tensor,
    window: tuple[int, int],
    rule: WindowRule,
    stride: tuple[int, int] | None,
    order: Tensor | None,
) -> list[Visit]:
    grid = (known.shape[1], known.shape[2])
    if rule == "block":
        step = stride or (max(1, window[0] // 2), max(1, window[1] // 2))
        places = window_places(grid, window, step)
        return [Visit(place, 0, place.height * place.width) for place in places]
    if rule != "published":
        raise ValueError(f"window rule '{rule}' is unknown; give 'published' or 'block'")
    visits = published_visits(grid, window)
    in_raster = order is None or bool((order.diff() == 1).all())
    if len(visits) > 1 and not in_raster:
        raise ValueError(
            f"a grid of {grid[0]}x{grid[1]} is painted row by row by the published window rule, "
            f"which a model of another order cannot do; use the rule 'block', or paint "
            f"{window[0]}x{window[1]}"
        )
    return visits


def _centred(index: int, limit: int, size: int) -> int:
    """Where a window of `size` begins so that `index` is in its middle, or near a border."""
    return min(max(index - size // 2, 0), limit - size)


def _unknown_runs(unknown: Tensor, start: int) -> list[tuple[int, int]]:
    """First and behind the last of each run of places without a code; the first place is start."""
    runs: list[tuple[int, int]] = []
    for place in (unknown.nonzero()[:, 0] + start).tolist():
        if runs and runs[-1][1] == place:
            runs[-1] = (runs[-1][0], place + 1)
        else:
            runs.append((place, place + 1))
    return runs
