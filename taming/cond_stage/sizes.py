"""In which size a picture is painted, where nobody says: from what is given and what was trained.

Sizes are H x W in pixels, but where cells are named.
"""

import math
from collections.abc import Sequence

Size = tuple[int, int]

NEAR = 0.1  # logarithm of a ratio of aspects, below which one shape passes for the other


def stretch(one: Size, other: Size) -> float:
    """How far two shapes differ: |log| of the ratio of their aspects."""
    return abs(math.log(one[0] * other[1] / (one[1] * other[0])))


def whole_grid(size: Size, factor: int) -> Size:
    """The latent grid of a picture; ValueError if a side is no multiple of the factor."""
    if min(size) < factor or size[0] % factor or size[1] % factor:
        nearest = tuple(max(1, round(side / factor)) * factor for side in size)
        raise ValueError(
            f"size {size[0]}x{size[1]} is no multiple of {factor}; the nearest that is: "
            f"size={nearest}, in a terminal --size {nearest[0]}x{nearest[1]}"
        )
    return size[0] // factor, size[1] // factor


def fitting_window(grid: Size, trained: Sequence[Size]) -> Size:
    """The grid to paint this one in: its own where it fits a trained one, else the nearest."""
    if any(grid[0] <= each[0] and grid[1] <= each[1] for each in trained):
        return grid
    return nearest_window(grid, trained)


def nearest_window(grid: Size, trained: Sequence[Size]) -> Size:
    """The grid itself if it was trained, else the one that is nearest in shape.

    Of equal shapes the largest, which sees most of the picture at once.
    """
    if grid in trained:
        return grid
    return min(trained, key=lambda each: (stretch(each, grid), -each[0] * each[1]))


def fitting_size(shape: Size, sizes: Sequence[Size], factor: int) -> Size:
    """A size to paint a map of this shape in, at the scale trained on; a trained size if near.

    The short side is that of the trained size nearest in shape; a longer picture is painted in
    windows, so that nothing of the map is lost or squeezed.
    """
    near = min(sizes, key=lambda size: stretch(size, shape))
    if stretch(near, shape) < NEAR:
        return near
    scale = min(near) / min(shape) / factor
    height, width = (max(1, round(side * scale)) * factor for side in shape)
    return height, width
