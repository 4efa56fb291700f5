"""A folder of pictures with whatever annotations lie beside them.

    images/<name>.jpg        labels/<name>.png + label_names.json    depth/<name>.png + depth.json
    keypoints.json (COCO)    boxes.json (COCO)    class_labels.json {names, images}
    captions.json {name: [...]}                   split.json {train, validation, test}

Everything but `images/` may be missing, for the whole set or for single pictures. Labels and
classes are mapped by name into the vocabularies given, or into the set's own.
"""

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from taming.data.annotated_set import AnnotatedSet, fitting
from taming.data.annotations import (
    DepthTable,
    LabelTable,
    read_captions,
    read_class_labels,
    read_depth,
    read_json,
)
from taming.data.formats.coco import read_boxes
from taming.data.image_list import ImageList, expanded, split_by_name
from taming.data.keypoints import People
from taming.data.pictures import find_pictures

logger = logging.getLogger(__name__)

MAP_SUFFIXES = (".png", ".npy", ".tif", ".tiff", ".bmp")


class PairedFolder(AnnotatedSet):
    """Pictures of `root/images` and their annotations; arguments as in `AnnotatedSet`."""

    def _open_tables(self) -> LabelTable | None:
        wanted = self.wanted
        self.depth = None
        if "depth" in wanted and (self.root / "depth").is_dir():
            self.depth = DepthTable.read(self._table("depth.json", "depth"))
        self.people = None
        if "keypoints" in wanted and (self.root / "keypoints.json").is_file():
            self.people = People(self.root / "keypoints.json")
        self.boxes: dict[str, NDArray[np.float32]] = {}
        if "boxes" in wanted and (self.root / "boxes.json").is_file():
            self.boxes, self.box_table = read_boxes(self.root / "boxes.json")
        self._own_classes: dict[str, int] = {}
        if "class_label" in wanted and (self.root / "class_labels.json").is_file():
            tables = read_class_labels(self.root / "class_labels.json")
            self.class_table, self._own_classes = tables
        self.captions: dict[str, list[str]] = {}
        if "caption" in wanted and (self.root / "captions.json").is_file():
            self.captions = read_captions(self.root / "captions.json")
        if "labels" in wanted and (self.root / "labels").is_dir():
            return LabelTable.read(self._table("label_names.json", "labels"))
        return None

    def _table(self, file: str, folder: str) -> Path:
        if not (self.root / file).is_file():
            raise ValueError(f"{self.root / file} is missing; {folder}/ means nothing without it")
        return self.root / file

    def _find(self) -> dict[str, Path]:
        folder = self.root / "images"
        if not folder.is_dir():
            raise ValueError(f"{folder} does not exist; a set has its pictures in images/")
        paths: dict[str, Path] = {}
        for path in find_pictures(folder):
            name = path.relative_to(folder).with_suffix("").as_posix()
            if name in paths:
                raise ValueError(f"{path} and {paths[name].name} share one name; rename one")
            paths[name] = path
        return paths

    def _split_names(self, names: list[str]) -> set[str]:
        file = self.root / "split.json"
        if not file.is_file():
            return super()._split_names(names)
        parts = read_json(file)
        chosen: set[str] = set()
        for part in self.split.split("+"):
            if part == "all":
                chosen |= set(names)
            elif part in parts:
                chosen |= set(parts[part])
            else:
                split_by_name([], part)  # complains about names that are no split at all
        missing = chosen - set(names)
        if missing:
            logger.warning("%s lists %d pictures that do not exist, such as '%s'", file,
                           len(missing), min(missing))  # fmt: skip
        return chosen & set(names)

    def _remedy(self) -> str:
        file = self.root / "split.json"
        if not file.is_file():
            return super()._remedy()
        sizes = {part: len(names) for part, names in read_json(file).items()}
        return f"{file} has {sizes}"

    def raw(self, index: int, at_least: tuple[int, int] | None = None) -> dict[str, Any]:
        # Maps and joints belong to the picture's full size.
        if self.labels is not None or self.depth is not None or self.people is not None:
            at_least = None
        return super().raw(index, at_least)

    def annotations(self, index: int, image: NDArray[np.uint8]) -> dict[str, Any]:
        name, (height, width) = self.names[index], image.shape[:2]
        found: dict[str, Any] = {}
        if self.labels is not None and (path := self._map("labels", name)) is not None:
            found["labels"] = fitting(self.labels(path), image, path)
        if self.depth is not None and (path := self._map("depth", name)) is not None:
            found["depth"] = fitting(read_depth(path, self.depth, name), image, path)
        if self.people is not None:
            people = self.people.of(name, height, width)
            if people is not None:
                found["keypoints"] = people
        if name in self.boxes:
            found["boxes"] = self.placed(self.boxes[name])
        if self._own_classes.get(name) in self.class_ids:
            found["class_label"] = torch.tensor(self.class_ids[self._own_classes[name]])
        if name in self.captions:
            found["captions"] = self.captions[name]
        return found

    def _map(self, folder: str, name: str) -> Path | None:
        for suffix in MAP_SUFFIXES:
            path = self.root / folder / (name + suffix)
            if path.is_file():
                return path
        return None


def open_set(
    path: str | os.PathLike[str], split: str = "train", format: str = "folder", **options: Any
) -> ImageList:
    """The set at a path, in one of the formats of `taming.data.formats`, or a folder of one's own.

    A folder is a `PairedFolder` where there is `images/` in it, else an `ImageList`.
    """
    if format != "folder":
        from taming.data.format_set import FormatSet

        return FormatSet(path, split, format=format, **options)
    if (expanded(path) / "images").is_dir():
        return PairedFolder(path, split, **options)
    for name in ("label_names", "class_names", "box_names", "ignore", "annotations"):
        options.pop(name, None)  # mean nothing without annotations
    return ImageList(path, split, **options)
