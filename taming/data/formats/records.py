"""What a format says about one picture, and what the numbers of all of them mean.

Paths and small facts only: pixels and maps are read when a sample is asked for. Pictures are taken
as stored, because the maps and coordinates of published sets were made so.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taming.data.annotations import read_depth
from taming.data.pictures import NoPictures, stored_pixels


@dataclass(slots=True)
class Record:
    """One picture; None and () where something is not known."""

    name: str
    image: str  # path
    labels: str | None = None  # path
    depth: str | None = None  # path
    class_label: int | None = None
    captions: Sequence[str] = ()
    keypoints: NDArray[np.float32] | None = None  # (N, 19, 3), pixels of the stored picture
    boxes: NDArray[np.float32] | None = None  # (N, 5): x0 y0 x1 y1 in 0..1, category


@dataclass
class Records:
    """All pictures of a split. Tables are {id: name}, of the ids in the files."""

    entries: list[Record]
    label_table: dict[int, str] = field(default_factory=dict)
    class_table: dict[int, str] = field(default_factory=dict)
    box_table: dict[int, str] = field(default_factory=dict)
    pixels: Callable[..., NDArray[np.uint8]] = stored_pixels
    depth: Callable[[str], NDArray[np.float32]] = read_depth


def joined(parts: Sequence[Records]) -> Records:
    """Several splits of one set, which number alike, as one; of none, a set without pictures."""
    if not parts:
        return Records([])
    first = parts[0]
    return Records(
        [record for part in parts for record in part.entries],
        first.label_table,
        first.class_table,
        {index: name for part in parts for index, name in part.box_table.items()},
        first.pixels,
        first.depth,
    )


def no_pictures(root: Path, split: str, lacking: Any, origin: str) -> NoPictures:
    """The error of a split that is not on the disk."""
    return NoPictures(
        f"{root} has no pictures in split '{split}': {lacking} does not exist; {origin}"
    )
