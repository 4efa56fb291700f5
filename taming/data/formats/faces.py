"""CelebA-HQ and FFHQ: a list of files for each split, faces of 1024x1024.

    celebahqtrain.txt celebahqvalidation.txt    celebahq/<name>.npy   uint8 (1, 3, 1024, 1024)
    ffhqtrain.txt ffhqvalidation.txt            ffhq/<name>.png

`faceshq` is both, CelebA-HQ first, with the set as class. Sources: Karras et al. 2018 and 2019.
"""

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from taming.data.formats.records import Record, Records, joined, no_pictures
from taming.data.pictures import read_planes, stored_pixels
from taming.data.roots import existing, read_lines

SETS = ("celebahq", "ffhq")
SPLITS = ("train", "validation")
ORIGIN = (
    "write the files of the split into it, one a line, or take the list that comes with "
    "taming-transformers in its folder data/"
)
PICTURES = {
    "celebahq": "the pictures of CelebA-HQ as .npy files, made by its authors' script",
    "ffhq": "the pictures of FFHQ, from github.com/NVlabs/ffhq-dataset",
}


def listed(root: Path, name: str, split: str) -> list[str]:
    """Paths of the pictures of a split."""
    file, folder = root / f"{name}{split}.txt", root / name
    if not file.is_file():
        raise no_pictures(root, split, file, ORIGIN)
    names = read_lines(file)
    existing(folder, PICTURES[name])
    return [os.path.join(folder, name) for name in names]


def pixels(path: str, at_least: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """uint8 (H, W, 3) of an array file or a picture."""
    return read_planes(path) if path.endswith(".npy") else stored_pixels(path, at_least)


def _read(root: Path, split: str, sets: tuple[str, ...]) -> Records:
    if split == "all":
        return joined([_read(root, part, sets) for part in SPLITS])
    entries = []
    for name in sets:
        for path in listed(root, name, split):
            stem = Path(path).relative_to(root).with_suffix("").as_posix()
            entries.append(Record(stem, path, class_label=SETS.index(name)))
    return Records(entries, class_table=dict(enumerate(("CelebA-HQ", "FFHQ"))), pixels=pixels)


def read_celebahq(root: Path, split: str) -> Records:
    return _read(root, split, ("celebahq",))


def read_ffhq(root: Path, split: str) -> Records:
    return _read(root, split, ("ffhq",))


def read_faceshq(root: Path, split: str) -> Records:
    return _read(root, split, SETS)
