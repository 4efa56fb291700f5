"""How values become pictures: text cards, colour ramps, palettes, checkerboards.

Everything is deterministic and needs nothing but NumPy and Pillow. Pictures are uint8 (H, W, 3).
"""

import textwrap
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

# Anchors from near-black violet over blue-green to pale yellow; lightness rises evenly, so that
# equal steps of depth look equal and the picture still reads in grey.
_RAMP = np.array(
    [(20, 14, 42), (49, 38, 104), (45, 84, 143), (37, 127, 142), (62, 168, 122), (150, 203, 92),
     (250, 236, 150)], dtype=np.float64,
)  # fmt: skip


def ramp(plane: np.ndarray) -> np.ndarray:
    """[0, 1] (H, W) -> colours from dark (0) to light (1)."""
    at = np.clip(np.nan_to_num(plane), 0.0, 1.0) * (len(_RAMP) - 1)
    stops = np.arange(len(_RAMP))
    channels = [np.interp(at, stops, _RAMP[:, c]) for c in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def draw_planes(planes: Tensor) -> np.ndarray:
    """(B, C, H, W) as uint8 (B, H, W, 3): a plane in [-1, 1] as a ramp, several as labels.

    Of several planes, one for each label, the largest gives a cell its colour.
    """
    values = planes.detach().float().cpu().numpy()
    if values.shape[1] == 1:
        return ramp(values[:, 0] * 0.5 + 0.5)
    return np.array(distinct_colours(values.shape[1]), np.uint8)[values.argmax(axis=1)]


def checkerboard(size: tuple[int, int], cell: int | None = None) -> np.ndarray:
    """Two greys in squares: what editors draw where there is no picture."""
    height, width = size
    cell = cell or max(2, min(size) // 16)
    rows, columns = np.arange(height)[:, None] // cell, np.arange(width)[None] // cell
    grey = np.where((rows + columns) % 2, 176, 208).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


def text_card(text: str, size: tuple[int, int] = (128, 128)) -> np.ndarray:
    """Words on paper, as large as they fit; an empty text is an empty card."""
    height, width = size
    image = Image.new("RGB", (width, height), (248, 246, 240))
    draw = ImageDraw.Draw(image)
    margin = max(4, min(size) // 16)
    for points in range(max(10, min(size) // 6), 7, -1):
        font = ImageFont.load_default(points)
        letters = max(4, int((width - 2 * margin) / (0.55 * points)))
        lines = textwrap.fill(text, letters, break_long_words=points == 8)  # only in the smallest
        left, top, right, bottom = draw.multiline_textbbox((0, 0), lines, font=font, spacing=3)
        if right - left <= width - 2 * margin and bottom - top <= height - 2 * margin:
            break
    at = ((width - right - left) / 2, (height - bottom - top) / 2)
    draw.multiline_text(at, lines, fill=(52, 48, 60), font=font, spacing=3, align="center")
    return np.asarray(image)


@lru_cache(maxsize=8)
def distinct_colours(count: int) -> tuple[tuple[int, int, int], ...]:
    """`count` colours, each as far as can be from those before it and from black and white.

    Farthest-point sampling in Oklab (B. Ottosson, 2020), where distance is what the eye sees;
    the first colours of a longer list are the shorter list.
    """
    levels = np.arange(16, 256, 16)
    rgb = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    lab = _oklab(rgb)
    chroma = np.hypot(lab[:, 1], lab[:, 2])
    # Neither muddy nor glaring: pictures of labels are looked at for long.
    pleasant = (lab[:, 0] > 0.42) & (lab[:, 0] < 0.9) & (chroma > 0.06) & (chroma < 0.19)
    rgb, lab = rgb[pleasant], lab[pleasant]
    taken = _oklab(np.array([(0, 0, 0), (255, 255, 255)]))
    distance = np.linalg.norm(lab[:, None] - taken[None], axis=-1).min(axis=1)
    chosen = [int(np.linalg.norm(lab - _oklab(np.array([(92, 148, 208)])), axis=-1).argmin())]
    while len(chosen) < count:
        distance = np.minimum(distance, np.linalg.norm(lab - lab[chosen[-1]], axis=-1))
        distance[chosen] = -1.0
        chosen.append(int(distance.argmax()))
    return tuple((int(r), int(g), int(b)) for r, g, b in rgb[chosen[:count]])


def _oklab(rgb: np.ndarray) -> np.ndarray:
    c = rgb / 255.0
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    cone = linear @ np.array(
        [[0.4122214708, 0.2119034982, 0.0883024619],
         [0.5363325363, 0.6806995451, 0.2817188376],
         [0.0514459929, 0.1073969566, 0.6299787005]]
    )  # fmt: skip
    return np.cbrt(cone) @ np.array(
        [[0.2104542553, 1.9779984951, 0.0259040371],
         [0.7936177850, -2.4285922050, 0.7827717662],
         [-0.0040720468, 0.4505937099, -0.8086757660]]
    )  # fmt: skip
