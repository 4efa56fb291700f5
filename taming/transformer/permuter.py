"""The published orders of image tokens: a sequence in raster order -> the order it is modelled in.

Each permuter keeps its order and its inverse as buffers, under the names of the published files.
Esser et al., arXiv 2012.09841, section 4.3 and figure 47: row by row (`Identity`) is the best.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import cycle

import numpy as np
import torch
from torch import Tensor, nn


class AbstractPermuter(nn.Module, ABC):
    """(B, T) in raster order -> (B, T) in the order of the sequence; `reverse` goes back."""

    @abstractmethod
    def forward(self, x: Tensor, reverse: bool = False) -> Tensor: ...


class Identity(AbstractPermuter):
    """Row by row."""

    def forward(self, x: Tensor, reverse: bool = False) -> Tensor:
        return x


class _Shuffle(AbstractPermuter):
    """A fixed order, given as raster indices in the order of the sequence."""

    forward_shuffle_idx: Tensor
    backward_shuffle_idx: Tensor

    def __init__(self, order: Sequence[int] | np.ndarray) -> None:
        super().__init__()
        places = torch.as_tensor(np.array(order, dtype=np.int64))
        self.register_buffer("forward_shuffle_idx", places)
        self.register_buffer("backward_shuffle_idx", places.argsort())

    def forward(self, x: Tensor, reverse: bool = False) -> Tensor:
        order = self.backward_shuffle_idx if reverse else self.forward_shuffle_idx
        if x.shape[1] != len(order):
            raise ValueError(
                f"{type(self).__name__} is for {len(order)} tokens, the sequence has {x.shape[1]}; "
                "set H and W in permuter_config to the latent grid"
            )
        return x[:, order]


class Subsample(_Shuffle):
    """Every other row and column first, of those every other first, ...: coarse to fine."""

    def __init__(self, H: int, W: int) -> None:
        if H != W or H & (H - 1):
            raise ValueError(f"Subsample needs a square grid with a power of two, not {H}x{W}")
        cells = np.arange(H * W).reshape(1, H, W)
        while cells.shape[1] > 1:
            # The four cosets of every 2x2 block become four smaller grids, one behind the other.
            cells = np.stack([cells[:, i::2, j::2] for i in (0, 1) for j in (0, 1)], axis=1)
            cells = cells.reshape(-1, *cells.shape[2:])
        super().__init__(cells.ravel())


class ZCurve(_Shuffle):
    """By the Morton code: bits of row and column interleaved."""

    def __init__(self, H: int, W: int) -> None:
        codes = [_spread_bits(i) << 1 | _spread_bits(j) for i in range(H) for j in range(W)]
        super().__init__(np.argsort(codes))


def _spread_bits(number: int) -> int:
    """The same bits with a zero in front of each: 0b111 -> 0b010101."""
    return sum((number >> bit & 1) << 2 * bit for bit in range(number.bit_length()))


class SpiralOut(_Shuffle):
    """From the middle outwards, clockwise."""

    def __init__(self, H: int, W: int) -> None:
        super().__init__(_spiral(type(self).__name__, H, W))


class SpiralIn(_Shuffle):
    """From the border inwards: `SpiralOut` backwards."""

    def __init__(self, H: int, W: int) -> None:
        super().__init__(_spiral(type(self).__name__, H, W)[::-1])


def _spiral(name: str, height: int, width: int) -> list[int]:
    """Up, right, down, left in runs of 1, 1, 2, 2, 3, 3, ... cells until the grid is full."""
    if height != width or height % 2 or height < 2:
        raise ValueError(f"{name} needs a square grid with an even side, not {height}x{width}")
    row, column = height // 2, width // 2 - 1
    cells = [row * width + column]
    for turn, (down, right) in enumerate(cycle([(-1, 0), (0, 1), (1, 0), (0, -1)])):
        for _ in range(turn // 2 + 1):
            if len(cells) == height * width:
                return cells
            row, column = row + down, column + right
            cells.append(row * width + column)
    raise AssertionError("a cycle never ends")


class Random(_Shuffle):
    """One random order, the same for ever."""

    def __init__(self, H: int, W: int) -> None:
        super().__init__(np.random.RandomState(1).permutation(H * W))


class AlternateParsing(_Shuffle):
    """Row by row, every other row from right to left."""

    def __init__(self, H: int, W: int) -> None:
        cells = np.arange(H * W).reshape(H, W)
        cells[1::2] = cells[1::2, ::-1].copy()
        super().__init__(cells.ravel())
