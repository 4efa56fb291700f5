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


def rasterise(corners: np.ndarray, faces: np.ndarray, height: int, width: int) -> Fragments:
    """`corners` (V,3): x and y in pixels (centres at .5), and depth, smaller is nearer."""
    a, b, c = (corners[faces[:, i]] for i in range(3))  # (F,3) each
    low = np.minimum(np.minimum(a, b), c)[:, :2]
    high = np.maximum(np.maximum(a, b), c)[:, :2]
    limit = np.array([width, height])
    first = np.clip(np.ceil(low - 0.5), 0, limit).astype(np.int32)
    last = np.clip(np.floor(high - 0.5) + 1, 0, limit).astype(np.int32)
    extent = np.maximum(last - first, 0)
    count = extent[:, 0] * extent[:, 1]
    face = np.repeat(np.arange(len(faces)), count)
    rank = np.arange(len(face)) - np.repeat(np.cumsum(count) - count, count)
    column = first[face, 0] + rank % extent[face, 0]
    row = first[face, 1] + rank // extent[face, 0]
    x, y = column + 0.5, row + 0.5
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    area = np.where(np.abs(area) < 1e-9, np.inf, area)[face]
    fa, fb, fc = a[face], b[face], c[face]
    wb = ((x - fa[:, 0]) * (fc[:, 1] - fa[:, 1]) - (y - fa[:, 1]) * (fc[:, 0] - fa[:, 0])) / area
    wc = ((fb[:, 0] - fa[:, 0]) * (y - fa[:, 1]) - (fb[:, 1] - fa[:, 1]) * (x - fa[:, 0])) / area
    wa = 1.0 - wb - wc
    inside = (wa >= 0) & (wb >= 0) & (wc >= 0) & (np.abs(area) < 1e18)
    share = np.stack([wa, wb, wc], 1)[inside]
    face, pixel = face[inside], (row * width + column)[inside]
    z = (share * np.stack([fa[inside, 2], fb[inside, 2], fc[inside, 2]], 1)).sum(1)
    # Far to near, so that what is written last to a pixel is the nearest.
    order = np.argsort(-z, kind="stable")
    nearest = np.full(height * width, -1, np.int64)
    nearest[pixel[order]] = order
    chosen = nearest[nearest >= 0]
    return Fragments(
        np.flatnonzero(nearest >= 0),
        face[chosen],
        share[chosen].astype(np.float32),
        z[chosen].astype(np.float32),
    )
