"""A folder of pictures with whatever annotations lie beside them.

    images/<name>.jpg        labels/<name>.png + label_names.json    depth/<name>.png + depth.json
    keypoints.json (COCO)    boxes.json (COCO)    class_labels.json {names, images}
    captions.json {name: [...]}                   split.json {train, validation, test}

Everything but `images/` may be missing, for the whole set or for single pictures. Labels and
classes are mapped by name into the vocabularies given, or into the set's own.
"""

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from taming.data.annotated_set import AnnotatedSet, fitting
from taming.data.annotations import (
    PARTS,
    DepthTable,
    LabelTable,
    check_proportions,
    read_captions,
    read_class_labels,
    read_depth,
    read_split,
)
from taming.data.formats.coco import BoxFile, read_boxes
from taming.data.image_list import ImageList, expanded, split_by_name
from taming.data.keypoints import People
from taming.data.matching import entries_by_name, matched
from taming.data.pictures import find_pictures

MAP_SUFFIXES = (".png", ".npy", ".tif", ".tiff", ".bmp")  # in any case; the first one counts


class PairedFolder(AnnotatedSet):
    """Pictures of `root/images` and their annotations; arguments as in `AnnotatedSet`."""

    depth: DepthTable  # this and the next two where `found` has such an entry
    people: People
    boxes: BoxFile

    def _open_tables(self) -> LabelTable | None:
        wanted = self.wanted
        self.found: dict[str, Mapping[str, Any]] = {}  # by annotation, by picture
        if "depth" in wanted and (self.root / "depth").is_dir():
            table = DepthTable.read(self._table("depth.json", "depth"))
            self.depth = replace(table, per_image=self._matched(table.per_image, "depth.json"))
            self.found["depth"] = self._maps("depth")
        if "keypoints" in wanted and (self.root / "keypoints.json").is_file():
            self.people = People(self.root / "keypoints.json")
            self.found["keypoints"] = self._keys(
                self.people.sizes, self.people.people, "keypoints.json"
            )
        if "boxes" in wanted and (self.root / "boxes.json").is_file():
            self.boxes = read_boxes(self.root / "boxes.json")
            self.box_table = self.boxes.table
            self.found["boxes"] = self._keys(self.boxes.sizes, self.boxes.rows, "boxes.json")
        if "class_label" in wanted and (self.root / "class_labels.json").is_file():
            self.class_table, classes = read_class_labels(self.root / "class_labels.json")
            self.found["class_label"] = self._matched(classes, "class_labels.json")
        self.captions: dict[str, list[str]] = {}
        if "caption" in wanted and (self.root / "captions.json").is_file():
            captions = read_captions(self.root / "captions.json")
            self.captions = self._matched(captions, "captions.json")
            self.found["caption"] = self.captions
        if "labels" in wanted and (self.root / "labels").is_dir():
            self.found["labels"] = self._maps("labels")
            return LabelTable.read(self._table("label_names.json", "labels"))
        return None

    def _matched(self, table: Mapping[str, Any], file: str) -> dict[str, Any]:
        return matched(table, self._pictures, self.root / file)

    def _keys(self, listed: Iterable[str], kept: Collection[str], file: str) -> dict[str, str]:
        """What a COCO file calls each picture that has something in it; it lists others too."""
        keys = self._matched({key: key for key in listed}, file)
        return {name: key for name, key in keys.items() if key in kept}

    def _maps(self, folder: str) -> dict[str, Path]:
        """The map of each picture."""
        found = find_pictures(self.root / folder, MAP_SUFFIXES)
        found.sort(key=lambda path: MAP_SUFFIXES.index(path.suffix.lower()), reverse=True)
        inside = {path.relative_to(self.root / folder): path for path in found}
        maps = {path.with_suffix("").as_posix(): full for path, full in inside.items()}
        return self._matched(maps, folder)

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
        self._pictures = list(paths)  # of every split
        return paths

    def _split_names(self, names: list[str]) -> set[str]:
        file = self.root / "split.json"
        if not file.is_file():
            return super()._split_names(names)
        parts = read_split(file)
        # Two spellings may mean one picture.
        train, *others = (set(entries_by_name(parts.get(part, ()), names)) for part in PARTS)
        for held, meant in zip(("validation", "test"), others, strict=True):
            if both := train & meant:
                raise ValueError(
                    f"{file} has {len(both)} pictures both in train and in {held}, such as "
                    f"'{min(both)}'; a picture learnt from tells nothing in {held}: take it out of "
                    "one"
                )
        chosen: set[str] = set()
        for part in self.split.split("+"):
            if part == "all":
                chosen |= set(names)
            elif part in parts:
                listed = {name: name for name in parts[part]}
                chosen |= set(matched(listed, names, f"{file}, '{part}'"))
            else:
                split_by_name([], part)  # complains about names that are no split at all
        return chosen

    def _remedy(self) -> str:
        file = self.root / "split.json"
        if not file.is_file():
            return super()._remedy()
        sizes = {part: len(names) for part, names in read_split(file).items()}
        return f"{file} has {sizes}"

    def raw(self, index: int, at_least: tuple[int, int] | None = None) -> dict[str, Any]:
        # Maps and joints belong to the picture's full size.
        if self.found.keys() & {"labels", "depth", "keypoints"}:
            at_least = None
        return super().raw(index, at_least)

    def annotations(self, index: int, image: NDArray[np.uint8]) -> dict[str, Any]:
        name, (height, width) = self.names[index], image.shape[:2]
        found: dict[str, Any] = {}
        mine = {kind: table[name] for kind, table in self.found.items() if name in table}
        if self.labels is not None and "labels" in mine:
            found["labels"] = fitting(self.labels(mine["labels"]), image, mine["labels"])
        if "depth" in mine:
            found["depth"] = fitting(
                read_depth(mine["depth"], self.depth, name), image, mine["depth"]
            )
        if "keypoints" in mine:
            found["keypoints"] = self.people.of(mine["keypoints"], height, width)
        if "boxes" in mine:
            key = mine["boxes"]
            check_proportions(self.boxes.path, key, self.boxes.sizes[key], (height, width))
            found["boxes"] = self.placed(self.boxes.rows[key])
        if mine.get("class_label") in self.class_ids:
            found["class_label"] = torch.tensor(self.class_ids[mine["class_label"]])
        if "caption" in mine:
            found["captions"] = mine["caption"]
        return found

    def annotated(self) -> dict[str, int]:
        return {
            kind: sum(name in table for name in self.names) for kind, table in self.found.items()
        }


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
