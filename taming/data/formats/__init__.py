"""Layouts in which data sets are kept or distributed: one file for each.

Each module tells which files there are, what the ids in them mean, and gives a `Record` for every
picture. The published classes and the sets of our own trainings are two faces of it.

    read(root, split) -> Records      split: "train", "validation", "test" or "all"
"""

import importlib
from collections.abc import Callable
from pathlib import Path

from taming.config import nearest
from taming.data.formats.records import Record, Records

FORMATS = (
    "ade20k",
    "celebahq",
    "class_folders",
    "coco",
    "deepfashion",
    "faceshq",
    "ffhq",
    "imagenet",
    "open_images",
    "sflckr",
)
_HOMES = {"celebahq": "faces", "faceshq": "faces", "ffhq": "faces"}

__all__ = ["FORMATS", "Record", "Records", "reader_of"]


def reader_of(name: str) -> Callable[[Path, str], Records]:
    """The function that reads a format by its name."""
    if name not in FORMATS:
        raise ValueError(f"format '{name}' is unknown; {nearest(name, ('folder', *FORMATS))}")
    home = _HOMES.get(name)
    module = importlib.import_module(f"taming.data.formats.{home or name}")
    return getattr(module, f"read_{name}" if home else "read")
