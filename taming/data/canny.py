"""Edges of a grey picture, as the published edge-conditioned sets had them.

Canny's detector (IEEE PAMI 8, 1986) in the form of scikit-image 0.17: borders weigh only what is
inside, suppression compares with values interpolated across the edge, thresholds are slopes of a
Sobel filter. The edges that people draw on are found otherwise, see `cond_stage/edges.py`.
"""

import numpy as np
from numpy.typing import NDArray

LUMA = (0.2125, 0.7154, 0.0721)  # Rec. 709
LOW, HIGH = 0.1, 0.2


def grey(image: NDArray[np.floating]) -> NDArray[np.floating]:
    """(H, W, 3) -> (H, W), in the same range."""
    return image @ np.asarray(LUMA, dtype=image.dtype)


def canny(image: NDArray[np.floating], sigma: float = 1.0) -> NDArray[np.bool_]:
    """Whether a pixel of a grey picture (H, W) lies on an edge; the outermost pixels do not."""
    import cv2

    radius = int(4.0 * sigma + 0.5)

    def blurred(plane: NDArray) -> NDArray:
        side = (2 * radius + 1, 2 * radius + 1)
        return cv2.GaussianBlur(plane, side, sigma, borderType=cv2.BORDER_CONSTANT)

    plane = np.ascontiguousarray(image, dtype=np.float64)
    smooth = blurred(plane) / (blurred(np.ones_like(plane)) + np.finfo(np.float64).eps)
    across = cv2.Sobel(smooth, cv2.CV_64F, 1, 0, ksize=3, borderType=cv2.BORDER_REFLECT)
    down = cv2.Sobel(smooth, cv2.CV_64F, 0, 1, ksize=3, borderType=cv2.BORDER_REFLECT)
    slope = np.hypot(across, down)
    thin = _highest(slope, across, down) & (slope >= LOW) & (slope > 0)
    thin[[0, -1], :] = thin[:, [0, -1]] = False
    _, parts = cv2.connectedComponents(thin.astype(np.uint8), connectivity=8)
    part = np.asarray(parts, dtype=np.int64)
    strong = np.zeros(int(part.max()) + 1, dtype=bool)
    strong[part[thin & (slope >= HIGH)]] = True
    return strong[part] & thin


def _highest(slope: NDArray, across: NDArray, down: NDArray) -> NDArray[np.bool_]:
    """Whether no value is larger one step up or down the slope, between two neighbours each."""
    padded = np.pad(slope, 1)
    height, width = slope.shape

    def shifted(rows: int, columns: int) -> NDArray:
        return padded[1 + rows : 1 + rows + height, 1 + columns : 1 + columns + width]

    same = across * down >= 0  # the slope runs from the top left to the bottom right
    steep = np.abs(down) > np.abs(across)
    large = np.maximum(np.abs(down), np.abs(across))
    weight = np.minimum(np.abs(down), np.abs(across)) / np.where(large > 0, large, 1.0)
    found = np.ones(slope.shape, dtype=bool)
    for way in (1, -1):
        upright = np.where(same, shifted(way, 0), shifted(-way, 0))
        beside = np.where(steep, upright, shifted(0, way))
        diagonal = np.where(same, shifted(way, way), shifted(-way, way))
        found &= diagonal * weight + beside * (1 - weight) <= slope
    return found
