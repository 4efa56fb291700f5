"""Many pictures on one page."""

from collections.abc import Sequence

import numpy as np
from PIL import Image


def contact_sheet(
    images: Sequence[np.ndarray | Image.Image], columns: int, gap: int = 2
) -> Image.Image:
    """The images (uint8 (H,W,3) or PIL), of one size or not, row by row on a dark page."""
    if not images or columns < 1:
        raise ValueError(
            f"a contact sheet needs at least one image and one column, "
            f"got {len(images)} and {columns}"
        )
    tiles = [i if isinstance(i, Image.Image) else Image.fromarray(i) for i in images]
    width, height = max(t.width for t in tiles) + gap, max(t.height for t in tiles) + gap
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    page = Image.new("RGB", (columns * width + gap, rows * height + gap), (24, 24, 26))
    for i, tile in enumerate(tiles):
        row, column = divmod(i, columns)
        page.paste(tile.convert("RGB"), (gap + column * width, gap + row * height))
    return page
