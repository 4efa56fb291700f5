"""How many cells to draw at each step when a grid is painted in few steps.

The first codes fix the layout and are drawn nearly one at a time; later ones, which have plenty of
context, in ever larger groups: the cosine schedule of MaskGIT (Chang et al. 2022, arXiv 2202.04200,
section 3.2), here as the sizes of consecutive groups of a fixed order.
"""

from __future__ import annotations

import math


def group_sizes(total: int, steps: int | None = None) -> list[int]:
    """Positive group sizes, `steps` of them (at most `total`), that sum to `total`.

    `steps=None` draws one cell at a time.
    """
    if total < 0:
        raise ValueError(f"cannot draw {total} cells")
    if steps is not None and steps < 1:
        raise ValueError(f"steps is {steps}; give at least 1")
    steps = total if steps is None else min(steps, total)
    done, sizes = 0, []
    for step in range(1, steps + 1):
        planned = round(total * (1 - math.cos(math.pi / 2 * step / steps)))
        least, most = done + 1, total - (steps - step)  # leave at least one for each later step
        reached = total if step == steps else min(max(planned, least), most)
        sizes.append(reached - done)
        done = reached
    return sizes
