"""S-FLCKR: landscapes with label maps that a network predicted, and any set listed like it.

    sflckr_train.txt  sflckr_validation.txt  sflckr_examples.txt     paths, one a line
    sflckr_images/<path>.jpg    sflckr_segmentations/<path>.png      ids 0..181 of COCO-Stuff

Source: Esser et al. 2021.
"""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from taming.data.formats.names import COCO_STUFF
from taming.data.formats.records import Record, Records, joined, no_pictures
from taming.data.pictures import DECODING_ERRORS
from taming.data.roots import first_of, read_lines

LISTS = {
    "train": ("sflckr_train.txt",),
    "validation": ("sflckr_validation.txt", "sflckr_examples.txt"),
}
ORIGIN = "write the paths of the split's pictures into it, one a line"


class Listed(NamedTuple):
    """A picture of a list, and its label map."""

    relative: str
    image: str
    labels: str


def listed(data_csv: str | os.PathLike[str], images: str, labels: str) -> list[Listed]:
    """The entries of a list; a map has the picture's path with .png for .jpg."""
    lines = read_lines(data_csv, "a list of pictures, one path a line")
    return [
        Listed(
            line,
            os.path.join(images, line),
            os.path.join(labels, line.replace(".jpg", ".png")),
        )
        for line in lines
    ]


def grey_ids(path: str) -> NDArray[np.uint8]:
    """uint8 (H, W) of a label map as the published sets have it."""
    try:
        with Image.open(path) as picture:
            if picture.mode in ("L", "P"):
                return np.array(picture)
            mode = picture.mode
    except DECODING_ERRORS as error:
        raise ValueError(f"{path} cannot be read as a label map ({error})") from error
    raise ValueError(f"{path} has mode {mode}; a label map is an 8-bit grey picture of ids")


def read(root: Path, split: str) -> Records:
    if split == "all":
        return joined([read(root, part) for part in LISTS if _list(root, part)])
    file = _list(root, split)
    if file is None:
        raise no_pictures(root, split, root / LISTS.get(split, (split,))[0], ORIGIN)
    maps = root / "sflckr_segmentations"
    records = [
        Record(
            os.path.splitext(entry.relative)[0],
            entry.image,
            labels=entry.labels if maps.is_dir() else None,
        )
        for entry in listed(file, str(root / "sflckr_images"), str(maps))
    ]
    names = {number: name for number, name in COCO_STUFF.items() if number != 255}
    return Records(records, label_table=names if maps.is_dir() else {})


def _list(root: Path, split: str) -> Path | None:
    return first_of([root / name for name in LISTS.get(split, ())])
