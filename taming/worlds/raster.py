"""Triangles to pixels with a depth buffer, vectorised over all triangles at once.

Meant for meshes whose triangles are a few pixels small: every triangle is tested against every
pixel of its bounding box. The nearest triangle of a pixel wins.
"""

from typing import NamedTuple

import numpy as np


class Fragments(NamedTuple):
    """The n pixels that the mesh covers."""

    pixel: np.ndarray  # (n,) index into the flattened picture
    face: np.ndarray  # (n,)
    share: np.ndarray  # (n,3) weights of the face's corners
    z: np.ndarray  # (n,)

    def interpolate(self, faces: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Values of vertices (V,C) at the fragments (n,C)."""
        return np.einsum("nk,nkc->nc", self.share, values[faces[self.face]])


def rasterise(
    corners: np.ndarray, faces: np.ndarray, height: int, width: int, front: int = 0
) -> Fragments:
    """Draws triangles (F,3) whose `corners` (V,3) are x and y in pixels (centres at .5) and depth.

    front: 1 or -1 draws only faces that turn clockwise or counter-clockwise in the picture, 0 all.
    """
    corners = corners.astype(np.float32)
    x, y = corners[:, 0][faces], corners[:, 1][faces]  # (F,3)
    area = (x[:, 1] - x[:, 0]) * (y[:, 2] - y[:, 0]) - (y[:, 1] - y[:, 0]) * (x[:, 2] - x[:, 0])
    left = np.clip(np.ceil(x.min(1) - 0.5), 0, width).astype(np.int32)
    right = np.clip(np.floor(x.max(1) + 0.5), 0, width).astype(np.int32)
    top = np.clip(np.ceil(y.min(1) - 0.5), 0, height).astype(np.int32)
    bottom = np.clip(np.floor(y.max(1) + 0.5), 0, height).astype(np.int32)
    facing = np.abs(area) > 1e-9 if front == 0 else area * front > 1e-9
    kept = np.flatnonzero(facing & (right > left) & (bottom > top))
    across = (right - left)[kept]
    count = across * (bottom - top)[kept]
    order = np.repeat(np.arange(len(kept)), count)  # which kept face each candidate tests
    rank = np.arange(len(order)) - np.repeat(np.cumsum(count) - count, count)
    row, column = np.divmod(rank, across[order])
    face = kept[order]
    row, column = row + top[face], column + left[face]
    x, y, area = x[face], y[face], area[face]
    dx, dy = column + np.float32(0.5) - x[:, 0], row + np.float32(0.5) - y[:, 0]
    wb = (dx * (y[:, 2] - y[:, 0]) - dy * (x[:, 2] - x[:, 0])) / area
    wc = ((x[:, 1] - x[:, 0]) * dy - (y[:, 1] - y[:, 0]) * dx) / area
    inside = np.flatnonzero((wb >= 0) & (wc >= 0) & (wb + wc <= 1))
    face, pixel = face[inside], (row * width + column)[inside]
    wb, wc = wb[inside], wc[inside]
    share = np.stack([1 - wb - wc, wb, wc], 1)
    z = (share * corners[:, 2][faces[face]]).sum(1)
    # Far to near, so that what is written last to a pixel is the nearest.
    order = np.argsort(-z, kind="stable")
    nearest = np.full(height * width, -1, np.int64)
    nearest[pixel[order]] = order
    chosen = nearest[nearest >= 0]
    return Fragments(np.flatnonzero(nearest >= 0), face[chosen], share[chosen], z[chosen])
