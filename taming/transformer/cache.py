"""Keys and values of everything fed so far, in buffers that are allocated once."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class KVCache:
    """Preallocated keys and values for `layers` layers and at most `capacity` tokens."""

    def __init__(
        self,
        layers: int,
        batch: int,
        heads: int,
        capacity: int,
        head_dim: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        shape = (layers, 2, batch, heads, capacity, head_dim)
        self.buffer = torch.empty(shape, dtype=dtype, device=device)
        self.length = 0

    @property
    def capacity(self) -> int:
        return self.buffer.shape[4]

    def layer(self, index: int) -> LayerCache:
        return LayerCache(self, index)

    def advance(self, count: int) -> None:
        """Make the tokens that every layer has just written part of the past."""
        self.length += count


class LayerCache(NamedTuple):
    """One layer's view of a cache."""

    cache: KVCache
    index: int

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write (B, heads, n, head_dim) behind the past; return all keys and values so far."""
        start = self.cache.length
        stop = start + keys.shape[2]
        if stop > self.cache.capacity:
            raise ValueError(f"{stop} tokens do not fit a cache of {self.cache.capacity}")
        buffer = self.cache.buffer[self.index]
        buffer[0, :, :, start:stop] = keys
        buffer[1, :, :, start:stop] = values
        return buffer[0, :, :, :stop], buffer[1, :, :, :stop]
