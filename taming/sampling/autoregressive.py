"""The one sampling loop: known codes in, groups of cells out.

Groups of one are the autoregressive chain rule, p(code_i | codes before i in the order). Larger
groups draw their cells in parallel, each given everything before the group. Known codes first in
the order make the same loop complete a picture. It knows a callable, no model: caches live behind
`next_logits`, and the loop with a caching callable must equal the loop with one that recomputes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from taming.sampling.filters import Filters, draw

UNKNOWN = -1  # marks the cells that are to be painted


class NextLogits(Protocol):
    """Feeds codes (B, n) at cells `positions` (B, n); logits (B, m, V) at `targets` (B, m)."""

    def __call__(self, codes: Tensor, positions: Tensor, targets: Tensor) -> Tensor: ...


def sample(
    next_logits: NextLogits,
    known: Tensor,  # (B, T) int64 codes by cell, UNKNOWN where they are to be drawn
    order: Tensor,  # (B, T) permutation of cells, the known ones first
    group_sizes: Sequence[int],  # cells drawn at each step; they sum to the unknown cells
    filters: Filters = Filters(),  # noqa: B008 - frozen
    generators: Sequence[torch.Generator] = (),  # one per image
    callback: Callable[[int, Tensor], None] | None = None,  # step, codes so far
    fed: int = 0,  # how many cells at the front of the order `next_logits` has been fed before
) -> Tensor:
    """Codes (B, T) by cell; known codes are returned as they were.

    Raises ValueError if the images differ in their number of known cells, if a known cell stands
    behind an unknown one in the order, or if the groups do not sum to the unknown cells.
    """
    total = known.shape[1]
    known_per_image = (known != UNKNOWN).sum(1)
    count = int(known_per_image[0])
    if bool((known_per_image != count).any()):
        raise ValueError(
            f"images of a batch know {known_per_image.tolist()} cells; paint them apart"
        )
    if count and bool((known.gather(1, order[:, :count]) == UNKNOWN).any()):
        raise ValueError("known cells must come first in the order; use orders.known_first")
    if sum(group_sizes) != total - count:
        raise ValueError(f"groups of {sum(group_sizes)} cells for {total - count} unknown cells")

    codes = known.clone()
    done = count  # places in the order that are decided; those up to `fed` the model has seen
    for step, size in enumerate(group_sizes):
        fresh, targets = order[:, fed:done], order[:, done : done + size]
        logits = next_logits(codes.gather(1, fresh), fresh, targets)  # (B, m, V)
        codes.scatter_(1, targets, draw(logits, filters, generators))
        fed, done = done, done + size
        if callback is not None:
            callback(step, codes)
    return codes
